"""What the search varies, and how a point of it becomes a schedule that spends a budget.

A plan has no token counts: the same plan is a schedule at any budget. Knows schedules and arithmetic; not
models, scores, or which plans are worth asking.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from reroute_cli.console.options import ActionName
from reroute_cli.schedules import ScheduleChoice, Target
from reroute_cli.tuning.counts import spend
from routing import Action, Pool, Schedule, Stage, VisionStage

MOST_CUTS = 5
LAST_QUERY, LAST_QUERIES = "last_query", "last_queries_max"  # the engine's rankings by attention
_NUDGE = 1e-12  # relative; so that floor(V * keep ratio) is the count that was meant


@dataclass(frozen=True)
class Room:
    """What every candidate of a search must fit. tokens: layer-tokens that it may spend on `target`.

    methods, actions: what may be searched; a method is a shape here: one keep ratio (fastv), a decaying one
    (pdrop), or one behind a vision stage (nuwa). vision_scorer: what ranks patches there. seed: of the
    model's weights, where they are random.
    """

    target: Target
    tokens: int
    methods: tuple[str, ...]
    actions: tuple[ActionName, ...]
    vision_scorer: str = "cls"
    seed: int = 0

    @property
    def average(self) -> float:
        """The budget as visual tokens per decoder layer."""
        return self.tokens / self.target.layers

    @property
    def ratio(self) -> float:
        """The budget as a reduction ratio."""
        return 1 - self.tokens / (self.target.layers * self.target.visual)


@dataclass(frozen=True)
class Plan:
    """Decision layers, and how keep ratios follow from one another.

    decay: the keep ratio of a stage over that of the stage before it. rho: tokens after the first decoder
    stage over those after the vision stage; None without one. earlier: each stage is ranked by the layer
    before its cut. pool: what rerouting may choose from after a vision stage.
    """

    method: str
    action: ActionName
    cuts: tuple[int, ...]
    decay: float = 1.0
    rho: float | None = None
    scorer: str = LAST_QUERY
    earlier: bool = False
    pool: str = "all"

    @property
    def weights(self) -> tuple[float, ...]:
        """Keep ratios up to a common factor, that of the vision stage first."""
        stages = tuple(self.decay**index for index in range(len(self.cuts)))
        return stages if self.rho is None else (1.0, *(self.rho * stage for stage in stages))

    @property
    def sensible(self) -> bool:
        """Whether no simpler plan is the same: each method has its own shape, and pruning its own steps."""
        if self.method == "fastv":
            shape = self.rho is None and self.decay == 1.0
        elif self.method == "pdrop":
            shape = self.rho is None and self.decay != 1.0 and len(self.cuts) > 1
        else:
            shape = self.rho is not None and (self.decay == 1.0 or len(self.cuts) > 1)
        if self.action == "prune":  # equal ratios prune once, and what was pruned can't return
            return shape and (self.decay < 1.0 or len(self.cuts) == 1) and self.pool == "all"
        return shape and (self.rho is not None or len(self.cuts) > 1)


@dataclass(frozen=True)
class Candidate:
    """One schedule that may be asked. identity: equal for schedules that do the same to a prompt of the
    target's size. origin: "default" (a published method as it is), "start", "warm" or "neighbour".

    plan: where to search on from here.
    """

    choice: ScheduleChoice
    schedule: Schedule
    identity: str
    origin: str
    plan: Plan

    @property
    def name(self) -> str:
        """The method and the action."""
        return f"{self.plan.method}-{self.plan.action}"


def realise(plan: Plan, room: Room) -> Schedule | None:
    """The schedule of a plan that spends the room's budget; None where there is none."""
    target = room.target
    if not _allowed(plan, room) or not _fits(plan, target):
        return None
    entries = plan.cuts if plan.rho is None else (target.first_layer, *plan.cuts)
    spans = [end - start for start, end in pairwise((*entries, target.layers))]
    falling = plan.action == "prune" or plan.pool == Pool.ANCHORS
    left = room.tokens - entries[0] * target.visual
    counts = spend(left, spans, plan.weights, target.visual, falling=falling) if left > 0 else None
    if counts is None:
        return None
    schedule = _schedule(plan, room, [_keep(count, target.visual) for count in counts])
    assert sum(schedule.tokens_per_layer(target.visual, target.layers)) <= room.tokens
    return schedule


def candidate(plan: Plan, room: Room, origin: str) -> Candidate | None:
    """The candidate that a plan is at this budget; None where it is none."""
    schedule = realise(plan, room)
    if schedule is None:
        return None
    choice = ScheduleChoice(
        plan.method, plan.action, ratio=round(room.ratio, 9), seed=room.seed, made=schedule
    )
    return Candidate(choice, schedule, identity(schedule, room.target), origin, plan)


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
        schedule.scorer + (f"({schedule.seed})" if schedule.scorer == "random" else ""),
        "" if vision is None else f"{vision.scorer},{vision.tau},{vision.protect},{schedule.pool}",
        *(f"{layer}:{count}" + ("" if by is None else f"<{by}") for layer, count, by in entries),
    ]
    return " ".join(part for part in parts if part)


def least_tokens(target: Target) -> int:
    """The fewest layer-tokens of any schedule: one token in every layer that may be reduced."""
    return target.first_layer * target.visual + target.layers - target.first_layer


def _allowed(plan: Plan, room: Room) -> bool:
    return plan.method in room.methods and plan.action in room.actions and plan.sensible


def _fits(plan: Plan, target: Target) -> bool:
    """Whether the decision layers are layers that may decide, in order."""
    cuts = plan.cuts
    if not 1 <= len(cuts) <= MOST_CUTS or any(later <= earlier for earlier, later in pairwise(cuts)):
        return False
    least = target.first_layer + (plan.rho is not None or plan.earlier)
    return least <= cuts[0] and cuts[-1] < target.layers


def _schedule(plan: Plan, room: Room, keeps: Sequence[float]) -> Schedule:
    vision = None
    if plan.rho is not None:
        vision = VisionStage(keeps[0], layer=room.target.first_layer, scorer=room.vision_scorer)
    stages = tuple(
        Stage(cut, keep, cut - 1 if plan.earlier else None)
        for cut, keep in zip(plan.cuts, keeps[-len(plan.cuts) :], strict=True)
    )
    return Schedule(
        stages, action=Action(plan.action), scorer=plan.scorer, vision=vision, pool=Pool(plan.pool)
    )


def _keep(count: int, visual: int) -> float:
    """The keep ratio that is this count, rounded down as the engine does."""
    exact = count / visual
    return exact if math.floor(visual * exact) == count else min(1.0, exact * (1 + _NUDGE))
