"""Choosing tokens that differ, and clusters of those that don't; nothing waits for the host.

Knows no method; torch is imported where it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

NEIGHBOURS = 7  # that a density is measured with; as many as clusters where these are fewer


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


def dpc_knn(features: Tensor, clusters: int, barred: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Density-peak clustering of (n, d): centres (C,), best first, and the cluster (n,) of each token.

    Density is exp(-mean squared distance to the nearest NEIGHBOURS, itself among them); distances are
    Euclidean, by the root of d. A centre is dense and far from all that is denser (the densest: as far as any
    two are apart); every other token joins its nearest centre. Without the noise by which others break ties.
    barred: (N,) int64, tokens that are no centres; n - N >= C >= 1. 2 n n d FLOPs.
    """
    import torch

    products = features.float() @ features.float().T
    squares = products.diagonal()
    distance = (squares[:, None] + squares - 2 * products).clamp(min=0) / features.shape[1]
    nearest = distance.topk(min(clusters, NEIGHBOURS), dim=1, largest=False).values
    density, distance = (-nearest.mean(dim=1)).exp(), distance.sqrt()
    apart = distance.where(density > density[:, None], distance.max()).amin(dim=1)
    peaks = apart * density
    if barred is not None:
        peaks = peaks.index_fill(0, barred, -torch.inf)
    centres = peaks.argsort(descending=True, stable=True)[:clusters]
    own = torch.arange(clusters, device=features.device)
    return centres, distance[centres].argmin(dim=0).index_copy(0, centres, own)


def cluster_means(features: Tensor, cluster: Tensor, clusters: int) -> Tensor:
    """Mean (C, d) float32 of the tokens (n, d) of each cluster, none of them empty; 2 C n d FLOPs.

    cluster: (n,) int64, the number of each token's.
    """
    import torch

    members = (cluster == torch.arange(clusters, device=cluster.device)[:, None]).float()
    return members @ features.float() / members.sum(dim=1, keepdim=True)
