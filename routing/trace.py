"""What happened to the visual tokens: a read-only record of the prefills run under one `route`.

Tensors stay on the device until somebody looks; looking copies them to the CPU. Knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from routing.layout import VisualLayout


@dataclass(frozen=True)
class StageTrace:
    """One decision of one prefill.

    layer: decoder layer at whose input the tokens were chosen.
    keep: (B, L) bool on the device, the kept visual columns. before: those of the decision before.
    ranked: (B, L) float32 scores on the device, or None where nothing was scored.
    scored_by: decoder layer whose attention ranked; None where none did.
    """

    layer: int
    keep: Tensor = field(repr=False)
    before: Tensor | None = field(repr=False)
    ranked: Tensor | None = field(repr=False)
    layout: VisualLayout = field(repr=False)
    scored_by: int | None = None

    @cached_property
    def kept(self) -> tuple[Tensor, ...]:
        """For each sample, (K_b,) LongTensor on the CPU: indices among its visual tokens, ascending."""
        return _indices(self.keep, self.layout)

    @cached_property
    def reentered(self) -> tuple[Tensor, ...]:
        """Of `kept`, those that the decision before had deferred."""
        if self.before is None:
            return tuple(torch.empty(0, dtype=torch.long, device="cpu") for _ in self.layout.positions)
        return _indices(self.keep & ~self.before, self.layout)

    @cached_property
    def scores(self) -> tuple[Tensor | None, ...]:
        """For each sample, (V_b,) float32 on the CPU, -inf for what was no candidate; None if unscored."""
        if self.ranked is None:
            return tuple(None for _ in self.layout.positions)
        ranked = self.ranked.cpu()
        return tuple(row[columns] for row, columns in zip(ranked, self.layout.positions, strict=True))


@dataclass(frozen=True)
class PrefillTrace:
    """One routed prefill: its decisions, and the visual and real prompt tokens of each sample."""

    stages: tuple[StageTrace, ...]
    visual_tokens: tuple[int, ...]
    prompt_tokens: tuple[int, ...]


class RouteTrace:
    """Every prefill run so far under one `route`, in order."""

    def __init__(self) -> None:
        self._prefills: list[PrefillTrace] = []

    @property
    def prefills(self) -> tuple[PrefillTrace, ...]:
        """The prefills of prompts with visual tokens, oldest first."""
        return tuple(self._prefills)

    @property
    def stages(self) -> tuple[StageTrace, ...]:
        """The decisions of the last such prefill; empty if there was none, or under a dense schedule."""
        return self._prefills[-1].stages if self._prefills else ()

    def _add(self, prefill: PrefillTrace) -> None:
        self._prefills.append(prefill)


def _indices(columns: Tensor, layout: VisualLayout) -> tuple[Tensor, ...]:
    rows = columns.cpu()
    return tuple(row[at].nonzero().flatten() for row, at in zip(rows, layout.positions, strict=True))
