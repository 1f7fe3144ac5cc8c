"""How a family of keep ratios is inverted: from the wanted average to the one free number.

Spans are layer counts: spans[0] dense layers, then the layers of each stage. `share` is the wanted average
fraction of visual tokens per layer, 1 - reduction ratio. Knows no method by name and no layer numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

BISECTIONS = 200  # halvings of [0, 1]; a float64 interval is exhausted long before


class Curve(Protocol):
    """Keep ratios as a function of one number in (0, 1]; at 1 the curve is as high as it goes."""

    def keeps(self, x: float) -> tuple[float, ...]:
        """The keep ratio of each stage; never falling as x grows."""
        ...

    def invert(self, share: float, spans: Sequence[int]) -> float:
        """The x at which the average over all layers is `share`; meaningful only where one exists."""
        ...


@dataclass(frozen=True)
class Weighted:
    """keep_j = x * weights_j, largest weight 1: single shot, uniform, pyramid and two-stage schedules."""

    weights: tuple[float, ...]

    def keeps(self, x: float) -> tuple[float, ...]:
        """x times each weight."""
        return tuple(x * weight for weight in self.weights)

    def invert(self, share: float, spans: Sequence[int]) -> float:
        """(L * share - s_0) / sum_j s_j w_j."""
        weighted = sum(span * weight for span, weight in zip(spans[1:], self.weights, strict=True))
        return (sum(spans) * share - spans[0]) / weighted


@dataclass(frozen=True)
class Geometric:
    """keep_j = x^j for j = 1..stages: PyramidDrop's cascade."""

    stages: int

    def keeps(self, x: float) -> tuple[float, ...]:
        """x, x^2, x^3, ..."""
        return tuple(x**power for power in range(1, self.stages + 1))

    def invert(self, share: float, spans: Sequence[int]) -> float:
        """Bisection on sum_j s_j x^j = L * share, which rises with x."""
        low, high = 0.0, 1.0
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if average(self.keeps(middle), spans) < share else (low, middle)
        return (low + high) / 2


def average(keeps: Sequence[float], spans: Sequence[int]) -> float:
    """Average fraction of the visual tokens processed per layer."""
    return sum(span * keep for span, keep in zip(spans, (1.0, *keeps), strict=True)) / sum(spans)
