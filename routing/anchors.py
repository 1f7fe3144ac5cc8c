"""The anchors of a prompt's pictures: chosen while the pictures are encoded, asked for when the prompt runs.

Tensors and counts only. Knows no model and registers no hook: routing/vision.py brings the tensors in, the
engine takes the selections out.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from routing.aggregate import Grid, aggregate, diagonal, select_anchors
from routing.errors import UnsupportedInputError
from routing.schedule import VisionStage

RADIUS = {"cls": math.sqrt(280 / 1058), "column_mean": 0.8}  # published tau / diagonal of the grid
PROTECT = {"cls": 0.55, "column_mean": 0.1}  # published quantiles


@dataclass(frozen=True)
class VisionSelection:
    """What the vision stage kept of one sample, its pictures one after another in the order of the prompt.

    kept: (K,) int64, ascending indices among the sample's V visual tokens.
    scores: (V,) float32, what ranked them within each picture; None if everything was kept unranked.
    """

    kept: Tensor
    scores: Tensor | None


@dataclass(frozen=True)
class _Picture:
    anchors: Tensor  # (K,) int64, ascending
    scores: Tensor  # (V,) float32

    @property
    def tokens(self) -> int:
        return self.scores.numel()


class VisionCollector(threading.local):
    """Anchors of the pictures that this thread encoded last, kept until the prompt that shows them runs."""

    def __init__(self, stage: VisionStage, count: Callable[[int], int]) -> None:
        self._stage = stage
        self._count = count
        self._pictures: list[_Picture] = []

    def begin(self) -> None:
        """Forget earlier pictures: a vision tower starts to encode new ones."""
        self._pictures = []

    def reduce(self, features: Tensor, similarity: Tensor, scores: Tensor, grid: Grid) -> Tensor:
        """Choose one picture's anchors, remember them, and return its features with the anchors aggregated.

        features: (V, d), similarity: (V, c), scores: (V,), all in raster order of grid (h, w). Nothing is
        changed where every token is kept.
        """
        scores = scores.to(features.device)
        count = self._count(scores.numel())
        anchors = select_anchors(scores, grid, count)
        self._pictures.append(_Picture(anchors, scores))
        if count == scores.numel():
            return features
        stage = self._stage
        merged = aggregate(
            features,
            similarity.to(features.device),
            scores,
            anchors,
            grid,
            tau=RADIUS[stage.scorer] * diagonal(grid) if stage.tau is None else stage.tau,
            protect=PROTECT[stage.scorer] if stage.protect is None else stage.protect,
            overwrite_self=stage.scorer == "cls",
        )
        return features.index_copy(0, anchors, merged)

    def take(self, visual_tokens: Sequence[int]) -> tuple[VisionSelection, ...]:
        """What was kept of each sample of a prompt, given its samples' visual tokens; forgets the pictures.

        Samples may show several pictures or none. Samples repeated by beam search (each of them as often as
        the others, side by side) share the pictures encoded once. Raises UnsupportedInputError where pictures
        and prompt do not match.
        """
        if self._stage.keep_ratio == 1.0 or not any(visual_tokens):
            return tuple(VisionSelection(torch.arange(count), None) for count in visual_tokens)
        pictures, self._pictures = self._pictures, []
        groups = _share(pictures, list(visual_tokens))
        if groups is None:
            raise UnsupportedInputError(
                f"the vision stage reduced pictures of {[p.tokens for p in pictures]} visual tokens, but the "
                f"samples of the prompt hold {list(visual_tokens)}: encode the pictures of a prompt, and no "
                "videos, inside the same route() that processes it"
            )
        return tuple(map(_selection, groups))


def _share(pictures: list[_Picture], samples: list[int]) -> list[list[_Picture]] | None:
    """Deal the pictures out to samples of so many visual tokens each; None if that does not come out."""
    held = sum(picture.tokens for picture in pictures)
    copies = sum(samples) // held if held else 0
    if not copies or samples != [size for size in samples[::copies] for _ in range(copies)]:
        return None
    rest, groups = list(pictures), []
    for size in samples[::copies]:
        group: list[_Picture] = []
        while rest and sum(picture.tokens for picture in group) < size:
            group.append(rest.pop(0))
        if sum(picture.tokens for picture in group) != size:
            return None
        groups.append(group)
    return [group for group in groups for _ in range(copies)]


def _selection(pictures: list[_Picture]) -> VisionSelection:
    """The pictures of one sample as one selection among all its visual tokens."""
    if not pictures:
        return VisionSelection(torch.arange(0), torch.zeros(0))
    starts = accumulate((picture.tokens for picture in pictures[:-1]), initial=0)
    kept = [picture.anchors + start for picture, start in zip(pictures, starts, strict=True)]
    return VisionSelection(torch.cat(kept), torch.cat([picture.scores for picture in pictures]))
