"""What a routed prefill could cost at best: lengths, FLOPs and shares, by arithmetic.

Knows schedules and shapes. Knows no torch, no clock and no machine.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from routing import solve
from routing.cost import ModelShape, PromptSize, layer_widths
from routing.schedule import Action, Schedule

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Workload:
    """One prompt in front of one decoder."""

    shape: ModelShape
    text: int
    visual: int

    @property
    def prompt(self) -> PromptSize:
        """Its token counts."""
        return PromptSize(self.text, self.visual)

    @property
    def length(self) -> int:
        """L, text and visual tokens."""
        return self.text + self.visual


@dataclass(frozen=True)
class Arm:
    """One way to run the prefill."""

    method: str
    action: Action
    ratio: float

    @property
    def name(self) -> str:
        """For tables and JSON."""
        return f"{self.method}-{self.action}-{self.ratio}"

    def schedule(self, layers: int) -> Schedule:
        """The schedule that reaches the arm's ratio in a decoder of that many layers."""
        return solve(self.method, action=self.action, ratio=self.ratio, layers=layers)


def lengths(work: Workload, schedule: Schedule) -> tuple[int, ...]:
    """Positions that each decoder layer processes."""
    return layer_widths(schedule, [work.prompt], len(work.shape.layers))


def flops_share(work: Workload, schedule: Schedule) -> float:
    """Routed FLOPs of all decoder layers over dense ones, scoring not included: limit A over dense time."""
    layers = work.shape.layers
    routed = zip(layers, lengths(work, schedule), strict=True)
    return sum(layer.flops(width, width) for layer, width in routed) / sum(
        layer.flops(work.length, work.length) for layer in layers
    )


def stage_starts(widths: Sequence[int], length: int) -> tuple[int, ...]:
    """Layers whose input is narrower or wider than that of the layer before; the prompt is `length` wide."""
    before = (length, *widths[:-1])
    return tuple(layer for layer, width in enumerate(widths) if width != before[layer])


def scored(work: Workload, schedule: Schedule) -> tuple[tuple[int, int], ...]:
    """(layer, positions whose keys it projects) of every decision that ranks something.

    Rerouting ranks the whole prompt each time, pruning what is left of it.
    """
    found, before = [], work.visual
    for stage, kept in zip(
        schedule.stages, schedule.counts(work.visual, len(work.shape.layers)), strict=True
    ):
        candidates = work.visual if schedule.action is Action.REROUTE else before
        if kept < candidates:
            found.append((stage.layer, work.text + candidates))
        before = kept
    return tuple(found)


@dataclass(frozen=True)
class Median:
    """A median and an interval that covers it with at least 95% confidence; below 6 values, all there is."""

    median: float
    low: float
    high: float


def median(values: Sequence[float]) -> Median:
    """Median of independent values, its interval by order statistics: no assumption on their distribution."""
    ordered, n = sorted(values), len(values)
    rank = max((r for r in range(1, n // 2 + 1) if _covers(n, r)), default=1)
    return Median(statistics.median(ordered), ordered[rank - 1], ordered[n - rank])


def _covers(n: int, rank: int) -> bool:
    """Whether the rank-th lowest and rank-th highest of n values enclose the median confidently enough."""
    outside = 2 * sum(math.comb(n, below) for below in range(rank)) / 2**n
    return 1 - outside >= CONFIDENCE
