"""FlashVID: attended tokens that differ, clusters of the others merged across frames, then a late drop.

Paper: https://arxiv.org/abs/2602.08024; released code 1d37422, which is for videos. An image is a clip of one
frame. A clip is cut into segments where its scene changes. Of T tokens of F frames, ceil(`alpha` T / F) of
each frame are found by greedy max-min over 1 - cosine, each distance multiplied by the attention of the token
that it leads to (`attn_div`), with `event` also by how like its segment that token is (`attn_div_v2`). Every
other token joins the one of the frame before that is most like it, if it is like enough. What is left are the
roots of trees; they get the places left over, as centres of clusters by density peaks, of which each becomes
the mean.

As in the release, a root becomes the sum of its tree over one more than its own branches: what lasts for
several frames grows longer than any token of it, where the paper speaks of averages. In a segment of one
frame, such as an image, all tokens are members of clusters, those found before as well; no found token is a
centre. Places go to the frames of a segment by their roots. The release rounds each of them up and keeps a
few tokens more than asked for; here those of the largest remainders are rounded up, as many as fit: K = T.

At 20 of 28 layers 0.3 of these stay, ranked by the last prompt token. The release keeps 1.25 times its budget
before that, which averages out at 28 layers alone; here S1 = L T / (l + (L - l) 0.3) at any depth. It chooses
behind LLaVA's projector; here that is before it. Rerouted, the drop becomes three decisions (ours).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from routing.methods.diversity import cluster_means, cosine, dpc_knn, farthest_first, stacked
from routing.methods.method import Method, Request, Shape
from routing.methods.selection import SHARE, Bounds, Chosen, Need, Seen, Selection, Sizes, in_parts
from routing.methods.solver import TOWER_OPTIONS, select_first
from routing.schedule import Action, Schedule, VisionStage

if TYPE_CHECKING:
    from torch import Tensor

RHO = 0.3  # of what is chosen first, after the drop
SCENE = 0.9  # cosine of the means of a frame and the next; below it a new segment begins
ALIKE = 0.8  # cosine above which a token joins one of the frame before


@in_parts
def choose(seen: Sequence[Seen], counts: Sequence[int], stage: VisionStage) -> list[Chosen]:
    """Tokens that differ, by attention, and centres that the others are merged into, clip by clip."""
    import torch

    setting = METHOD.selections["flashvid"].setting
    clips = [one.features.reshape(one.frames, one.size, -1) for one in seen]
    cuts = [segments(clip, int(setting(stage, "segments"))) for clip in clips]
    weights = [one.attention.view(one.frames, -1) for one in seen if one.attention is not None]
    if setting(stage, "event"):
        weights = [own * relevance(*clip) for own, *clip in zip(weights, clips, cuts, strict=True)]
    frames = (
        frame for clip, own in zip(clips, weights, strict=True) for frame in zip(clip, own, strict=True)
    )
    apart = ((1 - cosine(frame, frame)) * own for frame, own in frames)
    sizes = [one.size for one in seen for _ in range(one.frames)]
    few = [_found(count, one.frames, stage) for one, count in zip(seen, counts, strict=True)]
    each = [own for own, one in zip(few, seen, strict=True) for _ in range(one.frames)]
    orders = iter(farthest_first(stacked(apart, sizes, clips[0].device, math.inf), sizes, each))
    chosen = []
    for one, clip, segment, count in zip(seen, clips, cuts, counts, strict=True):
        kept = torch.stack([order for order, _ in islice(orders, one.frames)])
        found = torch.zeros(clip.shape[:2], dtype=torch.bool, device=clip.device).scatter(1, kept, True)
        features, places = one.features, count - kept.numel()
        if places:
            roots, left = trees(clip, segment, found, places)
            quotas = shares(left.sum(dim=1), segment, places)
            merged, centre = centres(roots, segment, found, left, quotas, min(places, one.size))
            features = features.where(~centre.view(-1, 1), merged.flatten(0, 1).to(features.dtype))
            found = found | centre
        order = found.flatten().byte().argsort(descending=True, stable=True)
        assert one.attention is not None
        chosen.append(Chosen(order[:count], one.attention, features))
    return chosen


def segments(features: Tensor, least: int) -> Tensor:
    """The number (F,) int64, from 0, of the segment that each frame of a clip (F, n, c) belongs to.

    A segment ends where the cosine of two frames' means is below SCENE, and where it is lowest if there are
    fewer than `least` segments (as many as there are frames).
    """
    import torch.nn.functional as F

    means = features.float().mean(dim=1)
    alike = F.cosine_similarity(means[1:], means[:-1], dim=-1)
    lowest = alike.argsort(stable=True).argsort() < least - 1
    return F.pad(((alike < SCENE) | lowest).cumsum(dim=0), (1, 0))


def relevance(features: Tensor, segment: Tensor) -> Tensor:
    """How like its segment each token is: (F, n) float32, its product with the segment's mean; 2 F F c FLOPs.

    features: (F, n, c). segment: (F,) int64, the number of each frame's.
    """
    same = (segment[:, None] == segment).float()
    means = same @ features.float().mean(dim=1) / same.sum(dim=1, keepdim=True)
    return (features.float() * means[:, None]).sum(dim=-1)


def trees(features: Tensor, segment: Tensor, found: Tensor, places: int) -> tuple[Tensor, Tensor]:
    """What is left of a clip when tokens have joined those of the frame before: roots, and their features.

    features: (F, n, c). segment: (F,) int64. found: (F, n) bool, tokens that take no part. A token joins the
    most similar one of the frame before in its segment, where their cosine is above ALIKE; the least similar
    do not where a segment would have fewer roots than its share of `places`. Returns (F, n, c) float32, what
    each root becomes, and (F, n) bool, the roots. 4 (F - 1) n n c FLOPs.
    """
    import torch

    (frames, tokens), device = found.shape, found.device
    likest, parent = torch.full((frames, tokens), -torch.inf, device=device), torch.zeros_like(found).long()
    for frame in range(1, frames):
        alike = cosine(features[frame], features[frame - 1]).masked_fill(found[frame - 1], -torch.inf)
        likest[frame], parent[frame] = alike.max(dim=1)
    begins = segment.diff(prepend=segment[:1] - 1) > 0
    joins = (likest > ALIKE) & ~found & ~begins[:, None]
    joins &= _rank(likest.masked_fill(~joins, -torch.inf), segment) < _spare(found, segment, places)[:, None]

    sums, branches = list(features.float()), torch.zeros_like(likest)
    for frame in range(frames - 1, 0, -1):
        joined = ((parent[frame] == torch.arange(tokens, device=device)[:, None]) & joins[frame]).float()
        sums[frame - 1] = sums[frame - 1] + joined @ sums[frame]
        branches[frame - 1] = joined.sum(dim=1)
    return torch.stack(sums) / (1 + branches[:, :, None]), ~found & ~joins


def _spare(found: Tensor, segment: Tensor, places: int) -> Tensor:
    """(F,) int64: how many tokens of each frame's segment may join others, its share of the places left."""
    same = segment[:, None] == segment
    others = (same * (~found).sum(dim=1)).sum(dim=1)
    return others + (-places * same.sum(dim=1)) // len(segment)


def _rank(scores: Tensor, segment: Tensor) -> Tensor:
    """(F, n) int64: how many tokens of a token's segment have a higher score (F, n)."""
    import torch

    tokens = scores.shape[1]
    order = scores.flatten().argsort(descending=True, stable=True)
    order = order[segment.repeat_interleave(tokens)[order].argsort(stable=True)]
    before = tokens * (segment[:, None] > segment).sum(dim=1)  # in other segments
    places = torch.arange(len(order), device=order.device) - before.repeat_interleave(tokens)
    return torch.empty_like(order).scatter(0, order, places).view_as(scores)


def shares(roots: Tensor, segment: Tensor, places: int) -> Tensor:
    """Places of each frame (F,) int64, `places` in all: a segment's by its length, a frame's by its roots.

    roots: (F,) int64, how many each frame has. Rounded down, and up where the remainder is largest.
    """
    same = segment[:, None] == segment
    dividend, divisor = places * same.sum(dim=1) * roots, len(roots) * (same * roots).sum(dim=1)
    down = dividend // divisor
    order = (dividend % divisor / divisor).argsort(descending=True, stable=True)
    return down + (order.argsort() < places - down.sum())


def centres(
    features: Tensor, segment: Tensor, found: Tensor, roots: Tensor, quotas: Tensor, most: int
) -> tuple[Tensor, Tensor]:
    """The mean of its cluster at the place of each centre (F, n, c) float32, and which tokens are centres.

    features: (F, n, c), of roots. quotas: (F,) int64, centres of each frame, `most` in one at most. In a
    segment of one frame all its tokens are members of clusters. 2 F n (n + most) c FLOPs.
    """
    import torch

    alone = (segment[:, None] == segment).sum(dim=1, keepdim=True) == 1
    members = roots | alone
    places, cluster = dpc_knn(features, most, quotas, members, able=~found)
    means = cluster_means(features, cluster, most, members)
    counted = torch.arange(most, device=quotas.device) < quotas[:, None]
    merged = torch.zeros_like(features).scatter(1, places[:, :, None].expand_as(means), means)
    return merged, torch.zeros_like(found).scatter(1, places, counted)


def _found(count: int, frames: int, stage: VisionStage) -> int:
    """Of `count` tokens of a clip, those of each frame that are found by being unlike the others."""
    alpha = METHOD.selections["flashvid"].setting(stage, "alpha")
    return min(count // frames, max(1, math.ceil(count * alpha / frames)))


def _flops(sizes: Sizes, stage: VisionStage) -> int:
    frames, tokens = sizes.frames, sizes.tokens // sizes.frames
    places = sizes.kept - frames * _found(sizes.kept, frames, stage)
    rows = frames * tokens
    if places:
        rows += frames * (tokens + min(places, tokens)) + 2 * (frames - 1) * tokens
    event = METHOD.selections["flashvid"].setting(stage, "event") * frames**2
    return 2 * sizes.width * (rows * tokens + int(event))


def _solve(request: Request) -> Schedule:
    return select_first(request, METHOD, RHO)


METHOD = Method(
    name="flashvid",
    title="FlashVID",
    paper="https://arxiv.org/abs/2602.08024",
    year=2026,
    summary="tokens that differ and centres of clusters at the vision tower, then a drop late in the decoder",
    scored="vision+language",
    published={Action.PRUNE: (23,), Action.REROUTE: (23, 26, 29)},
    solver=_solve,
    options={
        **TOWER_OPTIONS,
        "alpha": "share of the kept tokens that differ, the others being clusters (default 0.7)",
        "event": "1: tokens that differ are weighed by how like the image they are, too (default 0)",
        "scored_by": "own (default) or previous: which layer's attention ranks",
    },
    shape=Shape("behind a choice before the decoder, with a drop", rho=RHO),
    selections={
        "flashvid": Selection(
            frozenset({Need.ATTENTION}),
            choose,
            _flops,
            settings={"alpha": 0.7, "event": 0, "segments": 4},
            bounds={"alpha": SHARE, "event": Bounds(most=1, whole=True), "segments": Bounds(1, whole=True)},
        )
    },
)
