"""Choosing tokens that differ, and clusters of those that don't; nothing waits for the host.

Greedy choices run as steps over a batch of B images padded to W tokens, the V of an image first; their
counts K never rise from image to image, so that those which have enough are the last rows. What is chosen of
an image does not depend on the others. Knows no method; torch is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NEIGHBOURS = 7  # that a density is measured with; as many as clusters where these are fewer


def cosine(left: Tensor, right: Tensor) -> Tensor:
    """Cosine similarity (A, B) float32 of rows (A, d) and (B, d); 2 A B d FLOPs."""
    import torch.nn.functional as F

    unit: Tensor = F.normalize(left.float(), dim=-1) @ F.normalize(right.float(), dim=-1).T
    return unit


def stacked(squares: Iterable[Tensor], sizes: Sequence[int], device: torch.device, padding: float) -> Tensor:
    """Matrices (V, V) float32 of images, made one at a time, as one padded (B, W, W)."""
    import torch

    batch = torch.full((len(sizes), max(sizes), max(sizes)), padding, device=device)
    for square, size, place in zip(squares, sizes, batch, strict=True):
        place[:size, :size] = square.detach()
    return batch


def real(sizes: Sequence[int], width: int, device: torch.device) -> Tensor:
    """(B, W) bool: the first `sizes` of each row."""
    import torch

    lengths = torch.tensor(sizes).to(device, non_blocking=True)  # pageable: copied before this returns
    return torch.arange(width, device=device) < lengths[:, None]


def farthest_first(
    distances: Tensor, sizes: Sequence[int], counts: Sequence[int]
) -> list[tuple[Tensor, Tensor]]:
    """Greedy max-min: begin with the token whose nearest other is farthest, then go on with the farthest.

    distances: (B, W, W) float, of token i from token j in row i, infinite where it is padded. sizes: V of
    each image. counts: K of each, V > K >= 1, never rising. Ties go to the lower index. Returns of each image
    the chosen (K,) int64 in order, and every token's distance to its nearest chosen one (V,).
    """
    import torch

    images, width = distances.shape[:2]
    every = torch.arange(images, device=distances.device)
    open_ = real(sizes, width, distances.device)
    second = distances.topk(2, dim=1, largest=False).values[:, 1]
    newest = second.masked_fill(~open_, -torch.inf).argmax(dim=1)
    nearest, order = torch.full_like(second, torch.inf), newest.new_empty(images, counts[0])
    for step in range(counts[0]):
        going = sum(count > step for count in counts)
        if step:
            newest = nearest[:going].masked_fill(~open_[:going], -torch.inf).argmax(dim=1)
        order[:going, step] = newest
        open_[:going].scatter_(1, newest[:, None], False)
        nearest[:going] = torch.minimum(nearest[:going], distances[every[:going], newest])
    return [
        (order[image, :count], nearest[image, :size])
        for image, (size, count) in enumerate(zip(sizes, counts, strict=True))
    ]


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
