"""What the search varies, and how a point of it becomes a schedule that spends a budget.

A plan has no token counts: the same plan is a schedule at any budget. Budgets are counted in layer-tokens:
one visual token in one decoder layer. Knows schedules and arithmetic; not models, scores, or which plans are
worth asking.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, product
from operator import mul
from typing import TYPE_CHECKING

from reroute_cli.run.schedules import Arm, ScheduleChoice
from routing import Action, BudgetError, Pool, Schedule, Stage, VisionStage
from routing.errors import RoutingError
from routing.methods import METHODS, SCORERS

if TYPE_CHECKING:
    from reroute_cli.console.options import ActionName
    from routing.methods.method import Shape
    from routing.solve import Target

MOST_DECISIONS = 5
_STEPS = (-1, 0, 1, 2)  # tokens by which a count may differ from its shape, rounded down
_MOST_ENTRIES = 6  # so that all combinations of steps are a few thousand
_NUDGE = 1e-12  # relative; so that floor(V * keep ratio) is the count that was meant
_SOME_RATIO = 0.5  # within reach of every method, or nearly so


def shape_of(method: str) -> Shape:
    """How the keep ratios of a method that is searched follow from one another."""
    shape = METHODS[method].shape
    assert shape is not None, method
    return shape


def fits(method: str, *, flat: bool, vision: bool) -> bool:
    """Whether plans with or without a vision stage, of one keep ratio or several, are of this method's shape.

    One that ranks by what is its own has both: no other method is the same with another number of ratios.
    """
    shape, alone = shape_of(method), METHODS[method].ranks_alone
    return (shape.rho is not None) == vision and (vision or alone or (shape.decay == 1.0) == flat)


@dataclass(frozen=True)
class SearchSpace:
    """What every candidate of a search must fit. tokens: layer-tokens that it may spend on `target`.

    methods, actions: what may be searched; a method is a shape here (one keep ratio, a falling one, or one
    behind a vision stage) and what its own schedule ranks by. settings: of methods, NAME=VALUE by name.
    resizing: methods that make images smaller, which are asked as they are. seed: of the model's weights,
    where they are random, and of draws.
    """

    target: Target
    tokens: int
    methods: tuple[str, ...]
    actions: tuple[ActionName, ...]
    settings: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    resizing: tuple[str, ...] = ()
    seed: int = 0

    @property
    def average(self) -> float:
        """The budget as visual tokens per decoder layer."""
        return self.tokens / self.target.layers

    @property
    def ratio(self) -> float:
        """The budget as a reduction ratio."""
        return 1 - self.tokens / (self.target.layers * self.target.visual)

    def choice(self, method: str, action: ActionName, ratio: float) -> ScheduleChoice:
        """A method at this ratio, with its settings."""
        return ScheduleChoice(method, action, ratio, set=[*self.settings.get(method, ())], seed=self.seed)

    def own(self, method: str, action: ActionName) -> Schedule:
        """A method's own schedule at some amount: by what it ranks and chooses; raises a RoutingError."""
        choice = self.choice(method, action, _SOME_RATIO)
        try:
            return choice.build(self.target)
        except BudgetError as error:
            return replace(choice, ratio=error.nearest).build(self.target)


@dataclass(frozen=True)
class SchedulePlan:
    """Decision layers, and how keep ratios follow from one another.

    decay: the keep ratio of a stage over that of the stage before it. rho: tokens after the first decoder
    stage over those after the vision stage; None without one. earlier: each stage is ranked by the layer
    before it decides. pool: what rerouting may choose from after a vision stage.
    """

    method: str
    action: ActionName
    decisions: tuple[int, ...]
    decay: float = 1.0
    rho: float | None = None
    scorer: str = Schedule.scorer
    earlier: bool = False
    pool: str = "all"

    @property
    def weights(self) -> tuple[float, ...]:
        """Keep ratios up to a common factor, that of the vision stage first."""
        stages = tuple(self.decay**index for index in range(len(self.decisions)))
        return stages if self.rho is None else (1.0, *(self.rho * stage for stage in stages))

    @property
    def sensible(self) -> bool:
        """Whether no simpler plan is the same: each method has its own shape, and pruning its own steps."""
        flat = self.decay == 1.0
        shape = fits(self.method, flat=flat, vision=self.rho is not None)
        shape = shape and (flat or len(self.decisions) > 1)
        if self.action == "prune":  # equal ratios prune once, and what was pruned can't return
            return shape and (self.decay < 1.0 or len(self.decisions) == 1) and self.pool == "all"
        return shape and (self.rho is not None or len(self.decisions) > 1)


@dataclass(frozen=True)
class Candidate:
    """One schedule that may be asked. identity: equal for schedules that do the same to a prompt of the
    target's size. origin: "default" (a published method as it is), "start", "warm" or "neighbour".

    plan: where to search on from here; None of smaller images, whose schedule is the dense one.
    """

    choice: ScheduleChoice
    schedule: Schedule
    identity: str
    origin: str
    plan: SchedulePlan | None

    @property
    def name(self) -> str:
        """The method, with its settings, and the action."""
        return Arm.of(self.choice).name


def realise(plan: SchedulePlan, space: SearchSpace) -> Schedule | None:
    """The schedule of a plan that spends the budget; None where there is none.

    All that a plan does not say is as in the method's own schedule.
    """
    target = space.target
    if plan.method not in space.methods or plan.action not in space.actions or not plan.sensible:
        return None
    least = target.first_layer + (plan.rho is not None or plan.earlier)
    if not in_order(plan.decisions, target.last + 1) or plan.decisions[0] < least:
        return None
    entries = plan.decisions if plan.rho is None else (target.first_layer, *plan.decisions)
    spans = [end - start for start, end in pairwise((*entries, target.layers))]
    falling = plan.action == "prune" or plan.pool == Pool.ANCHORS
    left = space.tokens - entries[0] * target.visual
    counts = spend(left, spans, plan.weights, target.visual, falling=falling) if left > 0 else None
    if counts is None:
        return None
    exact = [count / target.visual for count in counts]
    keeps = [  # each ratio is its count when the engine rounds down
        keep if math.floor(target.visual * keep) == count else min(1.0, keep * (1 + _NUDGE))
        for keep, count in zip(exact, counts, strict=True)
    ]
    try:
        own = space.own(plan.method, plan.action)
    except RoutingError:  # it has none on this model, or with these settings
        return None
    stages = tuple(
        Stage(layer, keep, layer - 1 if plan.earlier else None)
        for layer, keep in zip(plan.decisions, keeps[-len(plan.decisions) :], strict=True)
    )
    vision = None if own.vision is None else replace(own.vision, keep_ratio=keeps[0])
    schedule = replace(own, stages=stages, scorer=plan.scorer, vision=vision, pool=Pool(plan.pool))
    assert sum(schedule.tokens_per_layer(target.visual, target.layers)) <= space.tokens
    return schedule


def in_order(decisions: Sequence[int], layers: int) -> bool:
    """Whether these can be decision layers: rising, within the decoder, no more than may be."""
    rising = all(later > earlier for earlier, later in pairwise(decisions))
    return 1 <= len(decisions) <= MOST_DECISIONS and rising and decisions[0] >= 0 and decisions[-1] < layers


def spend(
    tokens: int, spans: Sequence[int], weights: Sequence[float], visual: int, *, falling: bool
) -> tuple[int, ...] | None:
    """How many visual tokens each entry of a schedule keeps, so that a whole budget is spent.

    What rounding down leaves over is handed out so that as little as possible stays unspent; among equals
    the counts nearest to the shape win.

    Args:
        tokens: the budget in layer-tokens, without the dense layers before the first entry.
        spans: decoder layers of each entry.
        weights: the shape: counts are in proportion to these.
        visual: visual tokens of the prompt.
        falling: no entry keeps more than the one before it, as pruning demands.

    Returns:
        A count for each entry; None where the shape needs more tokens than there are, or an entry would keep
        none.
    """
    assert len(spans) == len(weights) <= _MOST_ENTRIES
    scale = tokens / math.fsum(span * weight for span, weight in zip(spans, weights, strict=True))
    exact = [scale * weight for weight in weights]
    if max(exact) > visual or min(exact) < 1:
        return None
    near = [[c for c in (math.floor(count) + step for step in _STEPS) if 1 <= c <= visual] for count in exact]
    found = [
        (tokens - sum(map(mul, made, spans)), made)
        for made in product(*near)
        if not (falling and any(later > earlier for earlier, later in pairwise(made)))
    ]
    unspent = min((rest for rest, _ in found if rest >= 0), default=None)
    ties = [made for rest, made in found if rest == unspent]

    def distance(made: Sequence[int]) -> float:
        return math.fsum((count - wanted) ** 2 / wanted for count, wanted in zip(made, exact, strict=True))

    return min(ties, key=lambda made: (distance(made), made)) if ties else None


def candidate(plan: SchedulePlan, space: SearchSpace, origin: str) -> Candidate | None:
    """The candidate that a plan is at this budget; None where it is none."""
    schedule = realise(plan, space)
    if schedule is None:
        return None
    choice = replace(space.choice(plan.method, plan.action, round(space.ratio, 9)), made=schedule)
    return Candidate(choice, schedule, identity(schedule, space.target), origin, plan)


def identity(schedule: Schedule, target: Target) -> str:
    """What a schedule does to a prompt of the target's size, in one line.

    Pruning that removes nothing is left out; a single decision does the same under both actions.
    """
    counts = schedule.counts(target.visual, target.layers)
    ranked = [None] * (schedule.vision is not None) + [stage.scored_by for stage in schedule.stages]
    entries = [
        (layer, count, None if by == layer else by)
        for (layer, _), count, by in zip(schedule.entries, counts, ranked, strict=True)
    ]
    if schedule.action is Action.PRUNE:
        before = [target.visual, *counts]
        entries = [entry for entry, last in zip(entries, before, strict=False) if entry[1] < last]
    vision = schedule.vision
    parts = [
        schedule.action if len(entries) > 1 else Action.PRUNE,
        schedule.scorer + (f"({schedule.seed})" if SCORERS[schedule.scorer].draw else ""),
        "" if vision is None else f"{_chosen_by(vision)},{schedule.pool}",
        *(f"{layer}:{count}" + ("" if by is None else f"<{by}") for layer, count, by in entries),
    ]
    return " ".join(part for part in parts if part)


def _chosen_by(stage: VisionStage) -> str:
    """What chooses before the decoder, and how."""
    if stage.selection == VisionStage.selection:
        return f"{stage.scorer},{stage.tau},{stage.protect}"
    settings = (f"{name}={value}" for name, value in dict(stage.settings).items())
    return ",".join((stage.selection, stage.scorer, *settings))


def least_tokens(target: Target) -> int:
    """The fewest layer-tokens of any schedule: one token in every layer that may be reduced."""
    return target.first_layer * target.visual + target.layers - target.first_layer
