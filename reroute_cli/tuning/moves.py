"""Where a search begins, and what lies next to a plan: published defaults, a spread of plans, neighbours.

Everything here is drawn from a seeded generator or in a fixed order. Knows plans and methods; not scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise, zip_longest
from random import Random

from reroute_cli.console.errors import CliError
from reroute_cli.schedules import ScheduleChoice
from reroute_cli.tuning.plans import (
    LAST_QUERIES,
    LAST_QUERY,
    MOST_CUTS,
    Candidate,
    Plan,
    Room,
    candidate,
    identity,
)
from routing.errors import RoutingError
from routing.methods.nuwa import RHO

DECAYS = (0.35, 0.5, 0.7, 1.0, 1.4)  # rising ones under rerouting only: what was pruned can't return
RHOS = (0.07, RHO, 0.3, 0.6)
_HALVING = 0.5  # PyramidDrop's decay, near enough to go on from its default
_TRIES = 40  # draws of a kind of plan before there is taken to be none at this budget
_OPENINGS = ((3, 1.0), (2, 0.5), (1, 1.0), (4, 0.5), (3, 0.0), (2, 1.0), (4, 1.0))  # layers, first of them
_FIRST_OF_ALL, _LAST_OF_ALL = 0.5, 0.7  # of the depth: the latest first decision, and the last one
_STEP = 0.7  # decay of the plans that a search begins with
Kind = tuple[str, str, int]  # method, action, number of decision layers


def defaults(room: Room, amount: ScheduleChoice) -> tuple[list[Candidate], dict[str, str]]:
    """The published methods as they are, at this amount; and by name, why some can't be had.

    amount: the dense choice with the ratio or budget that was asked for under any method.
    """
    made: list[Candidate] = []
    missing: dict[str, str] = {}
    for method, action in ((method, action) for method in room.methods for action in room.actions):
        try:
            choice = replace(amount, method=method, action=action)
            schedule = choice.build(room.target)
            name = identity(schedule, room.target)
        except (RoutingError, CliError) as error:
            missing[f"{method}-{action}"] = str(error)
            continue
        cuts = tuple(stage.layer for stage in schedule.stages)
        made.append(
            Candidate(choice, schedule, name, "default", _near(method, action, cuts, schedule.scorer))
        )
    return made, missing


def _near(method: str, action: str, cuts: tuple[int, ...], scorer: str) -> Plan:
    """The plan nearest to a published schedule."""
    decay = _HALVING if method == "pdrop" else 1.0
    return Plan(method, action, cuts[:MOST_CUTS], decay, RHO if method == "nuwa" else None, scorer)


def starters(room: Room, random: Random) -> Iterator[Candidate]:
    """Plans with evenly spread layers, then plans at random, each kind in its turn, while there are more."""
    seen: set[str] = set()
    for made in _spread_out(room):
        if made.identity not in seen:
            seen.add(made.identity)
            yield made
    kinds = [
        (method, action, cuts)
        for cuts in range(1, MOST_CUTS + 1)
        for method in room.methods
        for action in room.actions
    ]
    while kinds:
        for kind in list(kinds):
            found = _another(kind, room, random, seen)
            if found is None:
                kinds.remove(kind)
                continue
            seen.add(found.identity)
            yield found


def _spread_out(room: Room) -> Iterator[Candidate]:
    """Few kinds of layers for every method and action: from the last layer that the first decision may
    stand at, which keeps most of the model as it is, or from half as deep.
    """
    for number, depth in _OPENINGS:
        for method, action in ((method, action) for method in room.methods for action in room.actions):
            rho = RHOS[-1] if method == "nuwa" else None
            firsts = _first_cuts(room, behind_vision=rho is not None)
            if not firsts:
                continue
            late = min(firsts[-1], round(_FIRST_OF_ALL * room.target.layers))
            first = max(firsts[0], round(late * depth))
            end = max(first + number - 1, round(_LAST_OF_ALL * room.target.layers))
            cuts = tuple(first + (end - first) * index // max(1, number - 1) for index in range(number))
            decay = _STEP if method == "pdrop" and number > 1 else 1.0
            made = candidate(Plan(method, action, cuts, decay, rho, _scorer(method, room)), room, "start")
            if made is not None:
                yield made


def _another(kind: Kind, room: Room, random: Random, seen: set[str]) -> Candidate | None:
    """A plan of this kind that was not there yet."""
    for _ in range(_TRIES):
        plan = _drawn(kind, room, random)
        found = candidate(plan, room, "start") if plan is not None else None
        if found is not None and found.identity not in seen:
            return found
    return None


def _drawn(kind: Kind, room: Room, random: Random) -> Plan | None:
    method, action, number = kind
    rho = random.choice(RHOS) if method == "nuwa" else None
    firsts, layers = _first_cuts(room, behind_vision=rho is not None), room.target.layers
    if not firsts:
        return None
    first = random.choice(firsts)
    rest = range(first + 1, layers)
    if len(rest) < number - 1:
        return None
    cuts = (first, *sorted(random.sample(rest, number - 1)))
    decay = 1.0 if method == "fastv" or number == 1 else random.choice(DECAYS)
    return Plan(method, action, cuts, decay, rho, _scorer(method, room))


def _scorer(method: str, room: Room) -> str:
    """Nuwa ranks by three queries behind towers without a CLS token; see routing/methods/nuwa.py."""
    return LAST_QUERIES if method == "nuwa" and room.vision_scorer != "cls" else LAST_QUERY


def _first_cuts(room: Room, *, behind_vision: bool) -> range:
    """Layers at which the first decision may stand: those before it are dense and must leave a token."""
    target = room.target
    if behind_vision:
        return range(target.first_layer + 1, target.layers)
    spare = room.tokens - target.layers
    last = target.layers - 1 if target.visual == 1 else spare // (target.visual - 1)
    return range(target.first_layer, min(last, target.layers - 1) + 1)


def neighbours(plan: Plan, room: Room, random: Random) -> list[Plan]:
    """Plans one step away: decision layers moved, added or dropped, and whatever else a plan says.

    Either sort is shuffled; two of the first are followed by one of the second, since layers matter most.
    """
    layers, others = _other_cuts(plan, room), [*_other_shapes(plan, room), *_elsewhere(plan, room)]
    random.shuffle(layers)
    random.shuffle(others)
    mixed = zip_longest(layers[::2], layers[1::2], others)
    return [one for three in mixed for one in three if one is not None]


def _other_cuts(plan: Plan, room: Room) -> list[Plan]:
    cuts, layers = plan.cuts, room.target.layers
    found = [_moved(cuts, index, step) for index in range(len(cuts)) for step in (-1, 1, -2, 2)]
    found += [cuts[:index] + cuts[index + 1 :] for index in range(len(cuts))]
    found += [tuple(sorted({*cuts, (low + high) // 2})) for low, high in pairwise((*cuts, layers))]
    found += [tuple(cut + step for cut in cuts) for step in (-1, 1)]
    distinct = dict.fromkeys(made for made in found if made != cuts and _ordered(made, layers))
    return [_with_cuts(plan, made) for made in distinct]


def _elsewhere(plan: Plan, room: Room) -> list[Plan]:
    """One layer taken from where it is into the middle of another gap."""
    found: dict[tuple[int, ...], None] = {}
    for index in range(len(plan.cuts)):
        rest = plan.cuts[:index] + plan.cuts[index + 1 :]
        for low, high in pairwise((*rest, room.target.layers)):
            found[tuple(sorted((*rest, (low + high) // 2)))] = None
    return [
        _with_cuts(plan, made) for made in found if made != plan.cuts and _ordered(made, room.target.layers)
    ]


def _moved(cuts: tuple[int, ...], index: int, step: int) -> tuple[int, ...]:
    """One layer moved, over another one too."""
    return tuple(sorted((*cuts[:index], cuts[index] + step, *cuts[index + 1 :])))


def _ordered(cuts: Sequence[int], layers: int) -> bool:
    """Whether these can be decision layers: rising, within the decoder, no more than may be."""
    rising = all(later > earlier for earlier, later in pairwise(cuts))
    return 1 <= len(cuts) <= MOST_CUTS and rising and cuts[0] >= 0 and cuts[-1] < layers


def _with_cuts(plan: Plan, cuts: tuple[int, ...]) -> Plan:
    """The plan at other layers; where pruning once becomes pruning in steps, it has to decay."""
    steps = plan.action == "prune" and len(cuts) > 1 and plan.decay >= 1
    made = replace(plan, cuts=cuts, decay=_HALVING if steps else plan.decay)
    return _renamed(made)


def _renamed(plan: Plan) -> Plan:
    """The plan under the method whose shape it now has."""
    flat = plan.decay == 1 or len(plan.cuts) == 1
    if plan.rho is not None:
        return replace(plan, decay=1.0 if flat else plan.decay)
    return replace(plan, method="fastv" if flat else "pdrop", decay=1.0 if flat else plan.decay)


def _other_shapes(plan: Plan, room: Room) -> list[Plan]:
    """Everything but the layers, one change at a time; what can't be is left out where it is realised."""
    found = [replace(plan, decay=decay) for decay in _beside(plan.decay, DECAYS)]
    found += [replace(plan, action="reroute" if plan.action == "prune" else "prune", pool="all")]
    found += [replace(plan, scorer=LAST_QUERIES if plan.scorer == LAST_QUERY else LAST_QUERY)]
    found += [replace(plan, earlier=not plan.earlier)]
    if plan.rho is not None:
        found += [replace(plan, rho=rho) for rho in _beside(plan.rho, RHOS)]
        found += [replace(plan, pool="anchors" if plan.pool == "all" else "all")]
        found += [replace(plan, rho=None, pool="all", scorer=LAST_QUERY)]
    elif "nuwa" in room.methods:
        found += [replace(plan, method="nuwa", rho=RHOS[-1], scorer=_scorer("nuwa", room))]
    return [_renamed(made) for made in found]


def _beside(value: float, scale: Sequence[float]) -> list[float]:
    """The next smaller and the next larger one of a scale."""
    lower, higher = [one for one in scale if one < value], [one for one in scale if one > value]
    return lower[-1:] + higher[:1]
