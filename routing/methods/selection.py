"""What a method does before the decoder: which visual tokens of an image enter it, and with which features.

A selection says what it has to see, and chooses: a function of one image's tensors. Where they come from is
routing/vision (the vision tower) and routing/prefill.py (the decoder's input). Knows no model and no method.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from routing.errors import ScheduleError
from routing.schedule import VisionStage
from routing.towers import Need

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SHARE", "Bounds", "Chosen", "Need", "Seen", "Selection", "Sizes"]


@dataclass(frozen=True)
class Seen:
    """What a selection sees of V visual tokens; what it did not ask for is None.

    features: (V, c). From a tower: of one image, or of one tile or view of it, as they leave the tower, or
    what puts the tiles together; otherwise all of one prompt, as they enter the decoder. grid: rows and
    columns in whose raster order the V tokens of a tower are; None otherwise.
    attention, received, shallow: (V,) float32, see `Need`. The CLS row is summed over heads; the others are
    sums over queries of the mean over heads.
    keys: (V, D) float32, mean over heads, normed where the attention norms them, without position.
    states: (V, c') float32, mean of hidden states 16 to 24 of 24 of a tower, or of 7 to 23 of 32 through the
    merger that a tower has of its own. Where several patches make a token, all else is the mean over them.
    text: (T, c), T may be 0.
    """

    features: Tensor
    grid: tuple[int, int] | None = None
    attention: Tensor | None = None
    received: Tensor | None = None
    shallow: Tensor | None = None
    keys: Tensor | None = None
    states: Tensor | None = None
    text: Tensor | None = None


@dataclass(frozen=True)
class Chosen:
    """What a selection answers about V visual tokens.

    kept: (K,) int64, ascending. scores: (V,) float32, the ranking it leaves behind, higher is better.
    features: (V, c) with what was merged at the places of its centres, at a tower alone; None: they are as
    they were.
    """

    kept: Tensor
    scores: Tensor
    features: Tensor | None = None


@dataclass(frozen=True)
class Sizes:
    """The numbers that the cost of choosing follows from.

    tokens: V. width: c. kept: K, below V. keys: D. states: c'. text: T.
    """

    tokens: int
    width: int
    kept: int
    keys: int = 0
    states: int = 0
    text: int = 0


@dataclass(frozen=True)
class Bounds:
    """What a setting may be."""

    least: float = 0.0
    most: float = math.inf
    whole: bool = False

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} from {self.least:g} {'up' if self.most == math.inf else f'to {self.most:g}'}"

    def check(self, name: str, value: float) -> None:
        """Raise ScheduleError, which calls it `name`, for a value out of bounds or not whole."""
        if not self.least <= value <= self.most or (self.whole and value != int(value)):
            raise ScheduleError(f"{name} must be {self}, got {value!r}")


SHARE = Bounds(most=1)


@dataclass(frozen=True)
class Selection:
    """How visual tokens are chosen before the decoder.

    needs: what `choose` has to see. choose: what it sees, K (1 <= K < V), the stage with its settings -> what
    it chose. flops: sizes and stage -> FLOPs of the matrix products in `choose`, exactly.
    settings: what a stage may set, with the value that it has if it does not. bounds: what these may be, by
    name; any number where nothing is said.
    """

    needs: frozenset[Need]
    choose: Callable[[Seen, int, VisionStage], Chosen]
    flops: Callable[[Sizes, VisionStage], int]
    settings: Mapping[str, float] = field(default_factory=dict)
    bounds: Mapping[str, Bounds] = field(default_factory=dict)

    def setting(self, stage: VisionStage, name: str) -> float:
        """A setting as a stage has it, or by default."""
        return dict(stage.settings).get(name, self.settings[name])

    def check(self, stage: VisionStage) -> None:
        """Raise ScheduleError where a stage sets what there is not, or to what it may not be."""
        for name, value in dict(stage.settings).items():
            if name not in self.settings:
                takes = ", ".join(self.settings) or "none"
                raise ScheduleError(f"{stage.selection} has no setting {name}; it has {takes}")
            if name in self.bounds:
                self.bounds[name].check(f"{stage.selection}: {name}", value)

    def asked(self, stage: VisionStage) -> frozenset[Need]:
        """What a tower has to bring: with scorer column_mean, attention from all tokens for that of one."""
        if stage.scorer == "column_mean" and Need.ATTENTION in self.needs:
            return self.needs - {Need.ATTENTION} | {Need.RECEIVED}
        return self.needs

    @property
    def at_the_tower(self) -> bool:
        """Whether it takes place where features leave the vision tower, not where they enter the decoder."""
        return bool(self.needs - {Need.TEXT})
