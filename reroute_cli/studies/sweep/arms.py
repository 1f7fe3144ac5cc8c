"""The arms of a sweep: which of them a model reaches, and which are pairs.

Knows schedules; no torch, no measurements.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reroute_cli.schedules import Arm, ScheduleChoice, Target, place_of
from routing.errors import BudgetError


@dataclass(frozen=True)
class Reach:
    """Arms that can be asked, the dense one first, and why the others cannot, by name."""

    arms: tuple[Arm, ...]
    refused: dict[str, str]


def reach(arms: Iterable[Arm], targets: Sequence[Target]) -> Reach:
    """Which arms meet their amount on every one of these prompts.

    Raises ScheduleError for layers that the model or the method does not have: no amount would help.
    """
    able, refused = [], {}
    for arm in arms:
        try:
            for target in targets:
                arm.choice.build(target)
        except BudgetError as error:
            refused[arm.name] = str(error)
        else:
            able.append(arm)
    return Reach(tuple(able), refused)


@dataclass(frozen=True)
class Pair:
    """One method at one amount, pruned and rerouted; at least one of the two is there.

    place: the method, with decision layers where they were typed: 'fastv', 'fastv@3', 'fastv@3·3+5+8'.
    """

    place: str
    ratio: float | None
    budget: float | None
    prune: Arm | None
    reroute: Arm | None


def pairs_of(arms: Iterable[Arm]) -> tuple[Pair, ...]:
    """Every routed arm once, in the order of the first of each pair.

    A rerouted arm stands beside the pruned one with the same decision layers. Where there is none, it stands
    beside the pruned one whose first layer is its own: as many layers are dense in both.
    """
    routed = [arm for arm in arms if arm.method is not None]
    pruned = [arm for arm in routed if arm.action == "prune"]
    partner: dict[str, Arm] = {}  # of either, by name
    for depth in (None, 1):  # how many decision layers must be the same: all, then the first
        for arm in routed:
            if arm.action != "reroute" or arm.name in partner:
                continue
            free = (one for one in pruned if one.name not in partner)
            match = next((one for one in free if _kind(one.choice, depth) == _kind(arm.choice, depth)), None)
            if match is not None:
                partner |= {arm.name: match, match.name: arm}
    found = []
    for arm in routed:
        other = partner.get(arm.name)
        if arm.action == "prune":
            found.append(_pair(arm, other))
        elif other is None:
            found.append(_pair(None, arm))
    return tuple(found)


def _kind(choice: ScheduleChoice, depth: int | None) -> tuple[object, ...]:
    """All of a schedule but its action, with the first `depth` of its decision layers."""
    return choice.method, choice.ratio, choice.budget, choice.layers and choice.layers[:depth]


def _pair(prune: Arm | None, reroute: Arm | None) -> Pair:
    arm = prune or reroute
    assert arm is not None
    place = place_of(arm.choice)
    if prune is not None and reroute is not None and prune.choice.layers != reroute.choice.layers:
        place += f"·{place_of(reroute.choice).partition('@')[2]}"
    return Pair(place, arm.choice.ratio, arm.choice.budget, prune, reroute)
