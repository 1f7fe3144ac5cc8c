"""FlashVID on images: attended tokens that differ, clusters of the others, then a drop late in the decoder.

Paper: https://arxiv.org/abs/2602.08024; released code 1d37422, which is for videos. An image is a clip of one
frame here, and nothing is merged between frames. Of T tokens ceil(`alpha` T) are found by greedy max-min over
1 - cosine, each distance multiplied by the attention of the token that it leads to (the variant `attn_div`).
The others are centres of clusters by density peaks. As in the release's clips of one frame, all tokens are
members, those found before as well, and a centre becomes the mean of its cluster; no found token is a centre.

At 20 of 28 layers 0.3 of these stay, ranked by the last prompt token. The release keeps 1.25 times its budget
before that, which averages out at 28 layers alone; here S1 = L T / (l + (L - l) 0.3) at any depth. It chooses
behind LLaVA's projector; here that is before it. Rerouted, the drop becomes three decisions (ours).
"""

from __future__ import annotations

import math

from routing.methods.diversity import cluster_means, cosine, dpc_knn, farthest_first
from routing.methods.method import Method, Request, Shape
from routing.methods.selection import SHARE, Chosen, Need, Seen, Selection, Sizes
from routing.methods.solver import TOWER_OPTIONS, select_first
from routing.schedule import Action, Schedule, VisionStage

RHO = 0.3  # of what is chosen first, after the drop


def choose(seen: Seen, count: int, stage: VisionStage) -> Chosen:
    """Tokens that differ, by attention, and centres that all tokens around them are merged into."""
    import torch

    features, attention = seen.features, seen.attention
    assert attention is not None
    found = _found(count, stage)
    kept, _ = farthest_first((1 - cosine(features, features)) * attention, found)
    if found < count:
        centres, cluster = dpc_knn(features, count - found, barred=kept)
        means = cluster_means(features, cluster, count - found)
        features = features.index_copy(0, centres, means.to(features.dtype))
        kept = torch.cat([kept, centres])
    return Chosen(kept.sort().values, attention, features)


def _found(count: int, stage: VisionStage) -> int:
    return max(1, math.ceil(count * METHOD.selections["flashvid"].setting(stage, "alpha")))


def _flops(sizes: Sizes, stage: VisionStage) -> int:
    centres = sizes.kept - _found(sizes.kept, stage)
    rows = 2 * sizes.tokens + centres if centres else sizes.tokens
    return 2 * rows * sizes.tokens * sizes.width


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
        "scored_by": "own (default) or previous: which layer's attention ranks",
    },
    shape=Shape("behind a choice before the decoder, with a drop", rho=RHO),
    selections={
        "flashvid": Selection(
            frozenset({Need.ATTENTION}),
            choose,
            _flops,
            settings={"alpha": 0.7},
            bounds={"alpha": SHARE},
        )
    },
)
