"""The Pareto front: the points that nobody beats on score and cost at once. Arithmetic on named points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """One arm. cost: less is better. score: more is better."""

    name: str
    cost: float
    score: float

    def beats(self, other: Point) -> bool:
        """Nowhere worse, and somewhere better."""
        nowhere_worse = self.cost <= other.cost and self.score >= other.score
        return nowhere_worse and (self.cost < other.cost or self.score > other.score)


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats, cheapest first; equal points are on it together."""
    found: list[Point] = []
    best = float("-inf")
    for point in sorted(points, key=lambda point: (point.cost, -point.score)):
        if point.score > best or (found and (point.cost, point.score) == (found[-1].cost, found[-1].score)):
            found.append(point)
            best = point.score
    return found


def rival(point: Point, front: Sequence[Point]) -> Point:
    """The point of the front that beats this one by the highest score at no more cost."""
    better = [other for other in front if other.beats(point)]
    return max(better, key=lambda other: (other.score, -other.cost))
