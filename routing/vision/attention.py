"""Attention of a vision tower, as rankings of its tokens: one row of it, or its column sums.

Pure functions of tensors; no whole matrix of attention is ever held. Knows no model and registers no hook.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

QUERY_BLOCK = 256  # query rows of one attention block: bounds memory at H x 256 x P


def cls_attention(query: Tensor, key: Tensor, scale: float) -> Tensor:
    """Attention of the CLS token (the first) to each patch, summed over heads: one row, never T x T.

    query, key: (T, H, D) of one image with T = 1 + P. scale multiplies the dot products. Softmax over all T
    keys in float32. Returns (P,) float32.
    """
    logits = torch.einsum("hd,thd->ht", query[0].float(), key.float()) * scale
    return logits.softmax(dim=-1).sum(dim=0)[1:]


def attention_received(query: Tensor, key: Tensor, scale: float, real: Tensor | None = None) -> Tensor:
    """Attention that each of P tokens receives from all of them: sum over queries of the mean over heads.

    query, key: (P, H, D) of one attention segment (an image, or a window of it). real: (P,) bool, which
    tokens are no padding, None if all are; padding receives and gives nothing. Computed in blocks of query
    rows, so that no H x P x P tensor ever exists. Returns (P,) float32, the mean over real tokens 1, which
    makes windows of different sizes comparable (the mean over queries would not).
    """
    key = key.float().permute(1, 2, 0)
    received = torch.zeros(key.shape[-1], dtype=torch.float32, device=key.device)
    for number, rows in enumerate(torch.split(query.float().transpose(0, 1), QUERY_BLOCK, dim=1)):
        logits = (rows @ key) * scale
        if real is not None:
            logits = logits.masked_fill(~real, -torch.inf)
        given = logits.softmax(dim=-1).mean(dim=0)
        if real is not None:
            given = given * real[number * QUERY_BLOCK :][: len(given), None]
        received += given.sum(dim=0)
    return received


def square_means(values: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    """Mean over each square of side x side patches, in raster order; an incomplete last row or column is cut.

    values: (P,) or (P, c) float32, of a grid of P = rows x columns patches. Returns (V,) or (V, c).
    """
    if side == 1:
        return values
    channels = values.view(*grid, -1).permute(2, 0, 1)
    means = F.avg_pool2d(channels, side).flatten(1).T
    return means.reshape(-1, *values.shape[1:])


def window_order(grids: list[tuple[int, int]], side: int) -> Tensor:
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
