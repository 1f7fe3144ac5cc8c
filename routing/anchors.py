"""Nuwa's first stage: an image's visual tokens folded into a few of them, its anchors.

First the mathematics, pure functions of tensors for ONE image whose V visual tokens lie in raster order on an
(h, w) grid; then what is remembered from the encoding of the images to the prompt that shows them. Knows no
model and registers no hook: routing/vision.py brings the tensors in, the engine takes the selections out.

Source: Nuwa (the released code, 175b7d5): region-wise choice by the vision tower's attention, then a
spatially weighted aggregation. Where the release is wrong or silent, the function says what is done instead.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from routing.errors import UnsupportedInputError
from routing.schedule import VisionStage

Grid = tuple[int, int]
RADIUS = {"cls": math.sqrt(280 / 1058), "column_mean": 0.8}  # published tau / diagonal of the grid
PROTECT = {"cls": 0.55, "column_mean": 0.1}  # published quantiles
_REGION = 2  # regions are 2 x 2 cells
_EPSILON = 1e-8
_QUERY_BLOCK = 256  # query rows of one attention block: bounds memory at H x 256 x P


def select_anchors(scores: Tensor, grid: Grid, count: int) -> Tensor:
    """The `count` anchors of one image: best `top_n` of each 2x2 region, then the best of those overall.

    scores: (V,), higher is better, V = h * w. Returns (count,) int64 raster indices, ascending.
    top_n = ceil(count / regions), at most 4; equal scores go to the lower index.

    Mends the release: on an odd grid its regions left the last row and column out (LLaVA-NeXT), or padded
    them with zeros and then lost the anchors that fell into the padding (Qwen). Here the edge regions are
    just smaller, and where that leaves fewer candidates than `count`, the best other tokens fill up, so that
    exactly `count` survive.
    """
    assert 0 < count <= scores.numel() == grid[0] * grid[1]
    regions = math.ceil(grid[0] / _REGION) * math.ceil(grid[1] / _REGION)
    top_n = min(_REGION**2, math.ceil(count / regions))
    order = scores.argsort(descending=True, stable=True)
    outside = _rank_in_region(scores, grid)[order] >= top_n
    order = order[outside.to(torch.uint8).argsort(stable=True)]
    return order[:count].sort().values


def aggregate(
    features: Tensor,
    similarity: Tensor,
    scores: Tensor,
    anchors: Tensor,
    grid: Grid,
    tau: float,
    protect: float,
    overwrite_self: bool,
) -> Tensor:
    """The anchors' features with their surroundings folded in; memory is K x V, never V x V.

    features: (V, d), what is summed. similarity: (V, c), whose cosine says how alike two tokens are.
    The other arguments are those of `aggregation_weights`. Returns (K, d) in the dtype of `features`.
    """
    weights = aggregation_weights(similarity, scores, anchors, grid, tau, protect, overwrite_self)
    return (weights @ features.float()).to(features.dtype)


def aggregation_weights(
    similarity: Tensor,
    scores: Tensor,
    anchors: Tensor,
    grid: Grid,
    tau: float,
    protect: float,
    overwrite_self: bool,
) -> Tensor:
    """How much of each token goes into each anchor: (K, V) float32.

    w(a, q) = relu(cosine(a, q)) * max(0, 1 - distance(a, q) / tau), w(a, a) = 1, divided by the row's sum.
    tau: radius in grid cells. protect: anchors whose score reaches this quantile of the anchors' scores take
    nothing in. overwrite_self: put w(a, a) back to 1 after the division (Nuwa for LLaVA: merged rows then sum
    to between 1 and 2); without it rows sum to 1 (Nuwa for Qwen).
    """
    assert tau > 0
    unit = F.normalize(similarity.float(), dim=-1)
    cells = torch.arange(grid[0] * grid[1], device=anchors.device)
    row, column = (cells // grid[1]).float(), (cells % grid[1]).float()
    squared = (row[anchors, None] - row) ** 2 + (column[anchors, None] - column) ** 2
    weights = (unit[anchors] @ unit.T).relu() * (1 - squared.sqrt() / tau).clamp(min=0)
    ranks = scores[anchors].float()
    weights[ranks >= torch.quantile(ranks, protect)] = 0  # interpolated linearly
    weights.scatter_(1, anchors[:, None], 1.0)
    weights = weights / (weights.sum(dim=-1, keepdim=True) + _EPSILON)
    return weights.scatter(1, anchors[:, None], 1.0) if overwrite_self else weights


def cls_attention(query: Tensor, key: Tensor, scale: float) -> Tensor:
    """Attention of the CLS token (the first) to each patch, summed over heads: one row, never T x T.

    query, key: (T, H, D) of one image with T = 1 + P. scale multiplies the dot products. Softmax over all T
    keys in float32. Returns (P,) float32.
    """
    logits = torch.einsum("hd,thd->ht", query[0].float(), key.float()) * scale
    return logits.softmax(dim=-1).sum(dim=0)[1:]


def attention_received(query: Tensor, key: Tensor, scale: float) -> Tensor:
    """Attention that each of P tokens receives from all of them: sum over queries of the mean over heads.

    query, key: (P, H, D) of one attention segment (an image, or a window of it). Computed in blocks of query
    rows, so that no H x P x P tensor ever exists. Returns (P,) float32 with mean 1, which makes windows of
    different sizes comparable (the mean over queries would not).
    """
    key = key.float().permute(1, 2, 0)
    received = torch.zeros(key.shape[-1], dtype=torch.float32, device=key.device)
    for rows in torch.split(query.float().transpose(0, 1), _QUERY_BLOCK, dim=1):
        received += ((rows @ key) * scale).softmax(dim=-1).mean(dim=0).sum(dim=0)
    return received


def window_order(grids: list[Grid], side: int) -> Tensor:
    """Raster index of each cell in the order in which a windowed tower holds the cells: (sum of V,) int64.

    Windows of `side` x `side` cells in raster order, the cells of a window in raster order, image after
    image; windows at the right and lower edge are cut off, not padded.
    """
    orders, start = [], 0
    for height, width in grids:
        cells = torch.arange(height * width)
        window = cells // width // side * math.ceil(width / side) + cells % width // side
        orders.append(window.argsort(stable=True) + start)
        start += height * width
    return torch.cat(orders)


def diagonal(grid: Grid) -> float:
    """Distance in cells between opposite corners of the grid."""
    return math.hypot(grid[0] - 1, grid[1] - 1)


def _rank_in_region(scores: Tensor, grid: Grid) -> Tensor:
    """(V,) position, from 0, of each token among the tokens of its region, best first."""
    height, width = grid
    down, right = height % _REGION, width % _REGION
    padded = F.pad(scores.float().view(height, width), (0, right, 0, down), value=-math.inf)
    rows, columns = padded.shape[0] // _REGION, padded.shape[1] // _REGION
    regions = padded.view(rows, _REGION, columns, _REGION).transpose(1, 2).reshape(rows, columns, -1)
    ranks = regions.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    ranks = ranks.view(rows, columns, _REGION, _REGION).transpose(1, 2).reshape(padded.shape)
    return ranks[:height, :width].flatten()


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
        selections = []
        for group in groups:
            starts = accumulate((picture.tokens for picture in group), initial=0)
            kept = [picture.anchors + start for picture, start in zip(group, starts, strict=False)]
            scores = [picture.scores for picture in group]
            selections.append(
                VisionSelection(torch.cat(kept), torch.cat(scores))
                if group
                else VisionSelection(torch.arange(0), torch.zeros(0))
            )
        return tuple(selections)


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
