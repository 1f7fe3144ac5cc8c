"""Which arms of a sweep belong side by side: the same method at the same amount, pruned and rerouted.

Knows arms as they are asked for and as a report has them; no numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from reroute_cli.arms import Arm, place_of
from reroute_cli.records.sweep import SweepArm
from reroute_cli.schedules import ScheduleChoice

A = TypeVar("A", Arm, SweepArm)


@dataclass(frozen=True)
class Pair(Generic[A]):
    """One line of a comparison; at least one of the two is there.

    place: the method, with decision layers where they were typed: 'fastv', 'fastv@3', 'fastv@3·3+5+8'.
    """

    place: str
    ratio: float | None
    budget: float | None
    prune: A | None
    reroute: A | None


def pairs_of(arms: Iterable[A]) -> tuple[Pair[A], ...]:
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


def _matched(pruned: Sequence[A], rerouted: Sequence[A]) -> list[tuple[A, A]]:
    """(rerouted, pruned): equal layers first, equal first layers with what is left."""
    found: list[tuple[A, A]] = []
    for layers in (None, 1):  # all of them, then the first
        free = [arm for arm in pruned if arm not in [prune for _, prune in found]]
        for arm in rerouted:
            match = next((prune for prune in free if _key(prune, layers) == _key(arm, layers)), None)
            if match is not None and arm not in [reroute for reroute, _ in found]:
                found.append((arm, match))
                free.remove(match)
    return found


def _asked(arm: Arm | SweepArm) -> ScheduleChoice | SweepArm:
    """Where an arm says its method, amount and layers."""
    return arm.choice if isinstance(arm, Arm) else arm


def _key(arm: Arm | SweepArm, layers: int | None) -> tuple[object, ...]:
    asked, decided = _asked(arm), _layers(arm)
    return asked.method, asked.ratio, asked.budget, None if decided is None else tuple(decided[:layers])


def _layers(arm: Arm | SweepArm) -> Sequence[int] | None:
    return arm.choice.cuts if isinstance(arm, Arm) else arm.decision_layers


def _place(arm: Arm | SweepArm) -> str:
    return place_of(arm.choice) if isinstance(arm, Arm) else arm.place


def _pair(prune: A | None, reroute: A | None) -> Pair[A]:
    arm = prune or reroute
    assert arm is not None
    place, asked = _place(arm), _asked(arm)
    if prune is not None and reroute is not None and _layers(prune) != _layers(reroute):
        place += f"·{_place(reroute).partition('@')[2]}"
    return Pair(place, asked.ratio, asked.budget, prune, reroute)
