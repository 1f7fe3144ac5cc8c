"""Which arms of a sweep belong side by side: the same method at the same amount, pruned and rerouted.

Knows what was asked of an arm; not whether it is one of a run or of a report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

A = TypeVar("A")


class Asked(NamedTuple):
    """What was asked of an arm. place: its method, with decision layers where they were asked for."""

    name: str
    place: str
    method: str | None
    action: str | None
    ratio: float | None
    budget: float | None
    layers: Sequence[int] | None

    def key(self, depth: int | None) -> tuple[object, ...]:
        """All of it but the action, with the first `depth` of its decision layers."""
        layers = None if self.layers is None else tuple(self.layers[:depth])
        return self.method, self.ratio, self.budget, layers


@dataclass(frozen=True)
class ActionPair(Generic[A]):
    """One method at one amount, pruned and rerouted; at least one of the two is there.

    place: the method, with decision layers where they were typed: 'fastv', 'fastv@3', 'fastv@3·3+5+8'.
    """

    place: str
    ratio: float | None
    budget: float | None
    prune: A | None
    reroute: A | None


def pairs_of(arms: Iterable[A], asked_of: Callable[[A], Asked]) -> tuple[ActionPair[A], ...]:
    """Every routed arm once, in the order of the first of each pair.

    A rerouted arm stands beside the pruned one with the same decision layers. Where there is none, it stands
    beside the pruned one whose first layer is its own: as many layers are dense in both.
    """
    asked = [(asked_of(arm), arm) for arm in arms]
    routed = [(one, arm) for one, arm in asked if one.method is not None]
    partner: dict[str, tuple[Asked, A]] = {}  # of either, by name
    for depth in (None, 1):  # how many decision layers must be the same: all, then the first
        for one, arm in routed:
            if one.action != "reroute" or one.name in partner:
                continue
            free = (other for other in routed if other[0].action == "prune" and other[0].name not in partner)
            match = next((other for other in free if other[0].key(depth) == one.key(depth)), None)
            if match is not None:
                partner |= {one.name: match, match[0].name: (one, arm)}
    found = []
    for one, arm in routed:
        other = partner.get(one.name)
        if one.action == "prune":
            place = one.place
            if other is not None and other[0].key(None) != one.key(None):
                place += f"·{other[0].place.partition('@')[2]}"
            found.append(ActionPair(place, one.ratio, one.budget, arm, None if other is None else other[1]))
        elif other is None:
            found.append(ActionPair(one.place, one.ratio, one.budget, None, arm))
    return tuple(found)
