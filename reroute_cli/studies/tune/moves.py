"""Where a search begins, and what lies next to a plan: published defaults, a spread of plans, neighbours.

Everything here is drawn from a seeded generator or in a fixed order. Knows plans and methods; not scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise, product, zip_longest
from random import Random
from typing import TYPE_CHECKING

from reroute_cli.console.errors import CliError
from reroute_cli.console.options import ActionName
from reroute_cli.run.schedules import Arm
from reroute_cli.studies.tune.plans import (
    MOST_DECISIONS,
    Candidate,
    SchedulePlan,
    SearchSpace,
    candidate,
    fits,
    identity,
    in_order,
    shape_of,
)
from routing.errors import RoutingError
from routing.methods import METHODS, SCORERS, SEARCHED
from routing.schedule import Schedule

if TYPE_CHECKING:
    from reroute_cli.run.schedules import ScheduleChoice

DECAYS = (0.35, 0.5, 0.7, 1.0, 1.4)  # rising ones under rerouting only: what was pruned can't return
RHOS = (0.07, *sorted({0.3, 0.6} | {rho for name in SEARCHED if (rho := shape_of(name).rho) is not None}))
_BEHIND = 0.6  # the rho that a search begins with
_HALVING = 0.5  # the decay of steps where there was one
_TRIES = 40  # draws of a kind of plan before there is taken to be none at this budget
_OPENINGS = ((3, 1.0), (2, 0.5), (1, 1.0), (4, 0.5), (3, 0.0), (2, 1.0), (4, 1.0))  # layers, first of them
_FIRST_OF_ALL, _LAST_OF_ALL = 0.5, 0.7  # of the depth: the latest first decision, and the last one
_STEP = 0.7  # decay of the plans that a search begins with
Kind = tuple[str, ActionName, int]  # method, action, number of decision layers


def defaults(space: SearchSpace, amount: ScheduleChoice) -> tuple[list[Candidate], dict[str, str]]:
    """The published methods as they are, at this amount; and by name, why some can't be had.

    amount: the dense choice with the ratio or budget that was asked for under any method.
    """
    made: list[Candidate] = []
    missing: dict[str, str] = {}
    for method, action in product(space.methods, space.actions):
        choice = replace(amount, method=method, action=action, set=[*space.settings.get(method, ())])
        try:
            schedule = choice.build(space.target)
            name = identity(schedule, space.target)
        except (RoutingError, CliError) as error:
            missing[Arm.of(choice).name] = str(error)
            continue
        shape = shape_of(method)
        halfway = max(space.target.first_layer + 1, space.target.last // 2)  # where nothing changes
        decisions = tuple(stage.layer for stage in schedule.stages)[:MOST_DECISIONS] or (halfway,)
        nearest = _as_own(SchedulePlan(method, action, decisions, shape.decay, shape.rho), schedule)
        made.append(Candidate(choice, schedule, name, "default", nearest))
    for method in space.resizing:
        choice = replace(amount, method=method, action=None, set=None)
        made.append(Candidate(choice, Schedule(), method, "default", None))
    return made, missing


def _as_own(plan: SchedulePlan, own: Schedule) -> SchedulePlan:
    """The plan, ranked as in a method's own schedule: by what, by which layer and among which tokens."""
    earlier = any(stage.ranking_layer < stage.layer for stage in own.stages)
    return replace(plan, scorer=own.scorer, earlier=earlier, pool=own.pool.value)


def starters(space: SearchSpace, random: Random) -> Iterator[Candidate]:
    """Plans with evenly spread layers, then plans at random, each kind in its turn, while there are more."""
    seen: set[str] = set()
    # Few kinds of layers for every method and action: from the last layer that the first decision may
    # stand at, which keeps most of the model as it is, or from half as deep.
    for (number, depth), method, action in product(_OPENINGS, space.methods, space.actions):
        shape = shape_of(method)
        rho = None if shape.rho is None else _BEHIND
        firsts = _first_layers(space, behind_vision=rho is not None)
        if not firsts:
            continue
        late = min(firsts[-1], round(_FIRST_OF_ALL * space.target.layers))
        first = max(firsts[0], round(late * depth))
        end = max(first + number - 1, round(_LAST_OF_ALL * space.target.layers))
        decisions = tuple(first + (end - first) * index // max(1, number - 1) for index in range(number))
        decay = _STEP if shape.decay != 1.0 and number > 1 else 1.0
        made = _start(SchedulePlan(method, action, decisions, decay, rho), space)
        if made is not None and made.identity not in seen:
            seen.add(made.identity)
            yield made
    numbers = range(1, MOST_DECISIONS + 1)
    kinds = [(method, action, n) for n, method, action in product(numbers, space.methods, space.actions)]
    while kinds:
        for kind in list(kinds):
            found = _drawn(kind, space, random, seen)
            if found is None:
                kinds.remove(kind)
                continue
            seen.add(found.identity)
            yield found


def _drawn(kind: Kind, space: SearchSpace, random: Random, seen: set[str]) -> Candidate | None:
    """A candidate of this kind at random that is not among the seen ones; None after so many draws."""
    method, action, number = kind
    shape = shape_of(method)
    flat = shape.rho is None and shape.decay == 1.0
    for _ in range(_TRIES):
        rho = None if shape.rho is None else random.choice(RHOS)
        firsts = _first_layers(space, behind_vision=rho is not None)
        if not firsts:
            continue
        first = random.choice(firsts)
        rest = range(first + 1, space.target.layers)
        if len(rest) < number - 1:
            continue
        decisions = (first, *sorted(random.sample(rest, number - 1)))
        decay = 1.0 if flat or number == 1 else random.choice(DECAYS)
        found = _start(SchedulePlan(method, action, decisions, decay, rho), space)
        if found is not None and found.identity not in seen:
            return found
    return None


def _start(plan: SchedulePlan, space: SearchSpace) -> Candidate | None:
    """The candidate of a plan that is ranked as the method's own schedule is; None where it is none."""
    try:
        own = space.own(plan.method, plan.action)
    except RoutingError:
        return None
    return candidate(_as_own(plan, own), space, "start")


def _first_layers(space: SearchSpace, *, behind_vision: bool) -> range:
    """Layers at which the first decision may stand: those before it are dense and must leave a token."""
    target = space.target
    if behind_vision:
        return range(target.first_layer + 1, target.last + 1)
    spare = space.tokens - target.layers
    last = target.layers - 1 if target.visual == 1 else spare // (target.visual - 1)
    return range(target.first_layer, min(last, target.last) + 1)


def neighbours(plan: SchedulePlan, space: SearchSpace, random: Random) -> list[SchedulePlan]:
    """Plans one step away: decision layers moved, added or dropped, and whatever else a plan says.

    Either sort is shuffled; two of the first are followed by one of the second, since layers matter most.
    """
    decisions, end = plan.decisions, space.target.layers
    without = [decisions[:index] + decisions[index + 1 :] for index in range(len(decisions))]
    found = [  # one layer moved, over another one too
        tuple(sorted((*rest, layer + step)))
        for rest, layer in zip(without, decisions, strict=True)
        for step in (-1, 1, -2, 2)
    ]
    found += without
    found += [tuple(sorted({*decisions, (low + high) // 2})) for low, high in pairwise((*decisions, end))]
    found += [tuple(layer + step for layer in decisions) for step in (-1, 1)]
    layers = _at_layers(plan, found, end)
    elsewhere = (  # one layer taken into the middle of another gap
        tuple(sorted((*rest, (low + high) // 2))) for rest in without for low, high in pairwise((*rest, end))
    )
    others = _other_shapes(plan, space) + _at_layers(plan, elsewhere, end)
    random.shuffle(layers)
    random.shuffle(others)
    mixed = zip_longest(layers[::2], layers[1::2], others)
    return [one for three in mixed for one in three if one is not None]


def _at_layers(plan: SchedulePlan, found: Iterable[tuple[int, ...]], end: int) -> list[SchedulePlan]:
    """The plan at each of these that can be decision layers (of `end` layers) and are not its own.

    Where pruning once becomes pruning in steps, it has to decay.
    """
    others = []
    for decisions in dict.fromkeys(found):
        if decisions != plan.decisions and in_order(decisions, end):
            steps = plan.action == "prune" and len(decisions) > 1 and plan.decay >= 1
            decay = _HALVING if steps else plan.decay
            others.append(_renamed(replace(plan, decisions=decisions, decay=decay)))
    return others


def _renamed(plan: SchedulePlan) -> SchedulePlan:
    """The plan under a method whose shape it now has, its own one if it can."""
    flat, vision = plan.decay == 1 or len(plan.decisions) == 1, plan.rho is not None
    lending = (name for name in SEARCHED if not METHODS[name].ranks_alone)
    method = next(name for name in (plan.method, *lending) if fits(name, flat=flat, vision=vision))
    return replace(plan, method=method, decay=1.0 if flat else plan.decay)


def _other_shapes(plan: SchedulePlan, space: SearchSpace) -> list[SchedulePlan]:
    """Everything but the layers, one change at a time; what can't be is left out where it is realised."""
    alone = METHODS[plan.method].ranks_alone
    found = [replace(plan, decay=decay) for decay in _beside(plan.decay, DECAYS)]
    found += _ranked(
        replace(plan, action="reroute" if plan.action == "prune" else "prune"), space, anew=alone
    )
    if not alone:
        lent = [name for name, scorer in SCORERS.items() if scorer.reduce is not None]
        found += [replace(plan, scorer=name) for name in lent if name != plan.scorer]
    found += [replace(plan, earlier=not plan.earlier)]
    if plan.rho is not None:
        found += [replace(plan, rho=rho) for rho in _beside(plan.rho, RHOS)]
        found += [replace(plan, pool="anchors" if plan.pool == "all" else "all")]
        found += [replace(plan, rho=None, pool="all", scorer=SchedulePlan.scorer)]
    else:
        for name in space.methods:  # at the same layers
            vision = shape_of(name).rho is not None
            if name != plan.method and (alone or vision or METHODS[name].ranks_alone):
                other = replace(plan, method=name, rho=_BEHIND if vision else None)
                found += _ranked(other, space, anew=True)
    return [_renamed(made) for made in found]


def _ranked(plan: SchedulePlan, space: SearchSpace, *, anew: bool) -> list[SchedulePlan]:
    """The plan with all tokens as candidates, and, anew, with the ranking that its method has of its own.

    Nothing where the method has no schedule of its own on this model.
    """
    if not anew:
        return [replace(plan, pool="all")]
    try:
        return [replace(plan, pool="all", scorer=space.own(plan.method, plan.action).scorer)]
    except RoutingError:
        return []


def _beside(value: float, scale: Sequence[float]) -> list[float]:
    """The next smaller and the next larger one of a scale."""
    lower, higher = [one for one in scale if one < value], [one for one in scale if one > value]
    return lower[-1:] + higher[:1]
