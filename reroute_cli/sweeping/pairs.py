"""Which arms of a sweep belong side by side: the same method at the same amount, pruned and rerouted.

Knows arms by their names and choices; no numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reroute_cli.schedules import Arm, ScheduleChoice, place_of


@dataclass(frozen=True)
class Pair:
    """One line of a comparison; at least one of the two is there.

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
    beside = _matched(pruned, [arm for arm in routed if arm.action == "reroute"])
    partners = {prune.name: reroute for reroute, prune in beside}
    taken = {reroute.name for reroute, _ in beside}
    found = []
    for arm in routed:
        if arm.action == "prune":
            found.append(_pair(arm, partners.get(arm.name)))
        elif arm.name not in taken:
            found.append(_pair(None, arm))
    return tuple(found)


def _matched(pruned: Sequence[Arm], rerouted: Sequence[Arm]) -> list[tuple[Arm, Arm]]:
    """(rerouted, pruned): equal layers first, equal first layers with what is left."""
    found: list[tuple[Arm, Arm]] = []
    for key in (_same_layers, _same_start):
        free = [arm for arm in pruned if arm not in [prune for _, prune in found]]
        for arm in rerouted:
            match = next((prune for prune in free if key(prune.choice) == key(arm.choice)), None)
            if match is not None and arm not in [reroute for reroute, _ in found]:
                found.append((arm, match))
                free.remove(match)
    return found


def _same_layers(choice: ScheduleChoice) -> tuple[object, ...]:
    return choice.method, choice.ratio, choice.budget, choice.layers


def _same_start(choice: ScheduleChoice) -> tuple[object, ...]:
    return choice.method, choice.ratio, choice.budget, None if choice.layers is None else choice.layers[0]


def _pair(prune: Arm | None, reroute: Arm | None) -> Pair:
    arm = prune or reroute
    assert arm is not None
    place = place_of(arm.choice)
    if prune is not None and reroute is not None and prune.choice.layers != reroute.choice.layers:
        place += f"·{place_of(reroute.choice).partition('@')[2]}"
    return Pair(place, arm.choice.ratio, arm.choice.budget, prune, reroute)
