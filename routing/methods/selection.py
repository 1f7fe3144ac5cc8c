"""What a method does before the decoder: which visual tokens of an image enter it, and with which features.

A selection says what it has to see, and chooses: a function of the tensors of all images of an encoding, or
of all prompts of a batch. Where they come from is routing/vision (the vision tower) and routing/prefill.py
(the decoder's input). Knows no model and no method.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from routing.errors import ScheduleError
from routing.schedule import VisionStage
from routing.towers import Need

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SHARE", "Bounds", "Choose", "Chosen", "Need", "Seen", "Selection", "Sizes", "each", "in_parts"]

MOST_PAIRS = 2**25  # pairs of tokens compared at a time: 128 MiB of float32


@dataclass(frozen=True)
class Seen:
    """What a selection sees of V visual tokens; what it did not ask for is None.

    features: (V, c). From a tower: of one image, or of one tile or view of it, or of a clip, frame after
    frame, as they leave the tower, or what puts the tiles together; otherwise all of one prompt, as they
    enter the decoder. grid: rows and columns in whose raster order the tokens of each frame of a tower are;
    None otherwise. frames: how many of one size the V tokens are of; an image is a clip of one frame.
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
    frames: int = 1

    @property
    def size(self) -> int:
        """Tokens of a frame."""
        return len(self.features) // self.frames


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

    tokens: V. width: c. kept: K, below V. keys: D. states: c'. text: T. frames: F, of V / F tokens each.
    """

    tokens: int
    width: int
    kept: int
    keys: int = 0
    states: int = 0
    text: int = 0
    frames: int = 1


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
Choose = Callable[[Sequence[Seen], Sequence[int], VisionStage], list[Chosen]]


def each(choose: Callable[[Seen, int, VisionStage], Chosen]) -> Choose:
    """A choice among one image's tokens, made for image after image: for what takes a kernel or two."""

    def choose_each(seen: Sequence[Seen], counts: Sequence[int], stage: VisionStage) -> list[Chosen]:
        return [choose(one, count, stage) for one, count in zip(seen, counts, strict=True)]

    return choose_each


def in_parts(choose: Choose) -> Choose:
    """A choice that compares all tokens of an image, made for as many images at a time as memory allows.

    Padded to the largest image, no more than MOST_PAIRS pairs of tokens are compared at a time, or those of
    one image or clip. Images of like size go together. Of a clip only tokens of the same frame are pairs.
    """

    def choose_in_parts(seen: Sequence[Seen], counts: Sequence[int], stage: VisionStage) -> list[Chosen]:
        found: dict[int, Chosen] = {}
        left = sorted(range(len(seen)), key=lambda image: -seen[image].size)
        while left:
            frames = accumulate(seen[image].frames for image in left)
            most = MOST_PAIRS // seen[left[0]].size ** 2
            fit = max(1, sum(count <= most for count in frames))
            part, left = left[:fit], left[fit:]
            chosen = choose([seen[image] for image in part], [counts[image] for image in part], stage)
            found.update(zip(part, chosen, strict=True))
        return [found[image] for image in range(len(seen))]

    return choose_in_parts


@dataclass(frozen=True)
class Selection:
    """How visual tokens are chosen before the decoder.

    needs: what `choose` has to see. choose: what it sees of some images, for each of them K (1 <= K < V), the
    stage with its settings -> what it chose of each, the same as of each alone; `each` makes it of a function
    of one image. flops: sizes and stage -> FLOPs of the matrix products in `choose` for one image, exactly.
    settings: what a stage may set, with the value that it has if it does not. bounds: what these may be, by
    name; any number where nothing is said.
    """

    needs: frozenset[Need]
    choose: Choose
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
