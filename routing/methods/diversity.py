"""Choosing tokens that differ: greedy steps on the device that never wait for the host.

Knows no method; torch is imported where it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def cosine(left: Tensor, right: Tensor) -> Tensor:
    """Cosine similarity (A, B) float32 of rows (A, d) and (B, d); 2 A B d FLOPs."""
    import torch.nn.functional as F

    unit: Tensor = F.normalize(left.float(), dim=-1) @ F.normalize(right.float(), dim=-1).T
    return unit


def farthest_first(distances: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Greedy max-min: begin with the token whose nearest other is farthest, then go on with the farthest.

    distances: (V, V) float, V > count >= 1, of token i from token j in row i. Ties go to the lower index.
    Returns the chosen (count,) int64 in order, and every token's distance to its nearest chosen one (V,).
    """
    import torch

    first = distances.topk(2, dim=0, largest=False).values[1].argmax()[None]
    nearest, order = distances.index_select(0, first)[0], [first]
    open_ = torch.ones_like(nearest, dtype=torch.bool).index_fill(0, first, False)
    for _ in range(count - 1):
        following = nearest.masked_fill(~open_, -torch.inf).argmax()[None]
        order.append(following)
        open_ = open_.index_fill(0, following, False)
        nearest = torch.minimum(nearest, distances.index_select(0, following)[0])
    return torch.cat(order), nearest


def above(scores: Tensor, order: Tensor) -> Tensor:
    """Scores (V,) in which the chosen come first, in their order (K,), above all others as they were."""
    import torch

    ranks = torch.arange(len(order), 0, -1, device=scores.device, dtype=scores.dtype)
    return scores.index_copy(0, order, ranks + scores.max())
