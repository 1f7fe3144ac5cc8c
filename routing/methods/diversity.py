"""Choosing tokens that differ, and clusters of those that don't; nothing waits for the host.

Greedy choices run as steps over a batch of B images, padded to W tokens; what is chosen of an image does not
depend on the others, nor on their order. Knows no method; torch is imported where it is used.
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
    each image. counts: K of each, V > K >= 0. Ties go to the lower index. Returns of each image the chosen
    (K,) int64 in order, and every token's distance to its nearest chosen one (V,).
    """
    import torch

    every, most = torch.arange(len(distances), device=distances.device), max(counts)
    open_, asked = (real(some, len(distances[0]), distances.device) for some in (sizes, counts))
    second = distances.topk(2, dim=1, largest=False).values[:, 1]
    newest = second.masked_fill(~open_, -torch.inf).argmax(dim=1)
    nearest, order = torch.full_like(second, torch.inf), newest.new_empty(len(distances), most)
    for step in range(most):
        if step:
            newest = nearest.masked_fill(~open_, -torch.inf).argmax(dim=1)
        order[:, step] = newest
        open_.scatter_(1, newest[:, None], False)
        nearer = torch.minimum(nearest, distances[every, newest])
        nearest = nearer.where(asked[:, step, None], nearest)
    return [
        (order[image, :count], nearest[image, :size])
        for image, (size, count) in enumerate(zip(sizes, counts, strict=True))
    ]


def above(scores: Tensor, order: Tensor) -> Tensor:
    """Scores (V,) in which the chosen come first, in their order (K,), above all others as they were."""
    import torch

    ranks = torch.arange(len(order), 0, -1, device=scores.device, dtype=scores.dtype)
    return scores.index_copy(0, order, ranks + scores.max())


def dpc_knn(
    features: Tensor,
    most: int,
    clusters: Tensor | None = None,
    members: Tensor | None = None,
    able: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Density-peak clustering of the tokens of F frames (F, n, d), each frame by itself.

    clusters: (F,) int64, C of each frame; None: `most`, which is the largest. members: (F, n) bool, which
    tokens are clustered. able: (F, n) bool, which of them may be centres, no fewer than C; None: all. Returns
    centres (F, most), best first, of which the first C count, and the cluster (F, n) of each member.
    2 F n n d FLOPs.

    Density is exp(-mean squared distance to the nearest NEIGHBOURS, itself among them); distances are
    Euclidean, by the root of d. A centre is dense and far from all that is denser (the densest: as far as any
    two are apart); every other token joins its nearest centre. Without the noise by which others break ties.
    """
    import torch

    features = features.float()
    every = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
    clusters = torch.full_like(every[:, 0], most, dtype=torch.int64) if clusters is None else clusters
    members, able = every if members is None else members, every if able is None else able
    products = features @ features.transpose(1, 2)
    squares = products.diagonal(dim1=1, dim2=2)
    distance = (squares[:, :, None] + squares[:, None] - 2 * products).clamp(min=0) / features.shape[-1]
    distance = distance.masked_fill(~members[:, None], torch.inf)
    nearest = distance.topk(min(most, NEIGHBOURS), largest=False).values
    counted = clusters.clamp(1, NEIGHBOURS)[:, None, None]
    near = torch.arange(nearest.shape[2], device=features.device) < counted
    density = (-nearest.masked_fill(~near, 0).sum(dim=2) / counted[:, 0]).exp()
    distance = distance.sqrt()
    inside = members[:, None] & members[:, :, None]
    apart = distance.masked_fill(~inside, -torch.inf).amax(dim=(1, 2), keepdim=True)
    apart = distance.where(members[:, None] & (density[:, None] > density[:, :, None]), apart).amin(dim=2)
    peaks = (apart * density).masked_fill(~(members & able), -torch.inf)
    centres = peaks.argsort(dim=1, descending=True, stable=True)[:, :most]
    own = torch.arange(most, device=features.device).expand_as(centres)
    counts = own < clusters[:, None]
    apart = distance.gather(1, centres[:, :, None].expand(-1, -1, features.shape[1]))
    cluster = apart.masked_fill(~counts[:, :, None], torch.inf).argmin(dim=1)
    return centres, cluster.scatter(1, centres, own.where(counts, cluster.gather(1, centres)))


def cluster_means(features: Tensor, cluster: Tensor, most: int, members: Tensor | None = None) -> Tensor:
    """Mean (F, most, d) float32 of the members of each cluster of F frames (F, n, d), 0 of one without any.

    cluster: (F, n) int64, the number of each member's. members: (F, n) bool; None: all are. 2 F most n d
    FLOPs.
    """
    import torch

    own = torch.arange(most, device=cluster.device)[:, None]
    mine = cluster[:, None] == own
    weights = (mine if members is None else mine & members[:, None]).float()
    return weights @ features.float() / weights.sum(dim=2, keepdim=True).clamp(min=1)
