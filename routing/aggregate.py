"""Choosing anchors among an image's visual tokens and folding the rest into them: Nuwa's first stage.

Pure functions of tensors for ONE image whose V visual tokens lie in raster order on an (h, w) grid. Knows no
model, no hook, no batch and no schedule; routing/vision.py feeds it from the vision tower.

Source: Nuwa (the released code, 175b7d5): region-wise choice by the vision tower's attention, then a
spatially weighted aggregation. Where the release is wrong or silent, the function says what is done instead.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

Grid = tuple[int, int]
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
    weights = (unit[anchors] @ unit.T).relu() * _closeness(anchors, grid, tau)
    weights[_protected(scores[anchors], protect)] = 0
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


def _closeness(anchors: Tensor, grid: Grid, tau: float) -> Tensor:
    """(K, V) float32: 1 at the anchor itself, falling linearly to 0 at tau cells."""
    cells = torch.arange(grid[0] * grid[1], device=anchors.device)
    row, column = (cells // grid[1]).float(), (cells % grid[1]).float()
    squared = (row[anchors, None] - row) ** 2 + (column[anchors, None] - column) ** 2
    return (1 - squared.sqrt() / tau).clamp(min=0)


def _protected(scores: Tensor, quantile: float) -> Tensor:
    """(K,) bool: anchors that stay as they are (quantile interpolated linearly)."""
    return scores.float() >= torch.quantile(scores.float(), quantile)
