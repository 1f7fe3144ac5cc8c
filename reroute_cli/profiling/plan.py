"""How long and how often a run measures. Knows no torch."""

from __future__ import annotations

from dataclasses import dataclass

_PASSES = 3  # answers, FLOPs, memory: once each


@dataclass(frozen=True)
class Plan:
    """new_tokens: of every measured answer. warmup, rounds: over all items and arms, untimed and timed."""

    new_tokens: int
    warmup: int
    rounds: int

    def jobs(self, items: int, arms: int) -> int:
        """How many jobs a run comes to, for a progress bar."""
        return items * arms * (self.warmup + self.rounds + _PASSES)
