"""VisionZip: the patches that the CLS token attends to, and centres that take in the others.

Paper: https://arxiv.org/abs/2412.04467; released code 3151f6d, which is followed but for two things. The CLS
token itself is no token here, since the decoder has a place for each patch and none for it: T patches are
kept, of which round(`contextual` T) are centres (published: 30 of 192, 20 of 128, 10 of 64). And they stay
where they were: the release puts the centres behind all others and renumbers. As in the release, a centre
becomes itself plus the mean of its members, so about twice as long as either. The average is exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from routing.methods.diversity import cosine
from routing.methods.method import Method
from routing.methods.selection import SHARE, Chosen, Need, Seen, Selection, Sizes, each
from routing.methods.solver import AGAIN, FIRST_SHAPE, TOWER_OPTIONS, select_first
from routing.schedule import Action, VisionStage

if TYPE_CHECKING:
    from torch import Tensor


@each
def choose(seen: Seen, count: int, stage: VisionStage) -> Chosen:
    """The tokens with most attention, and centres at equal steps through the rest, members folded in."""
    import torch

    attention, keys = seen.attention, seen.keys
    assert attention is not None
    assert keys is not None
    centred = _centres(count, stage)
    order = attention.argsort(descending=True, stable=True)
    dominant, rest = order[: count - centred], order[count - centred :].sort().values
    step = max(1, len(rest) // max(1, centred))
    places = torch.arange(0, centred * step, step, device=rest.device)
    merged = fold(seen.features[rest], keys[rest], places)
    kept = torch.cat([dominant, rest[places]]).sort().values
    return Chosen(kept, attention, seen.features.index_copy(0, rest[places], merged))


def fold(features: Tensor, keys: Tensor, places: Tensor) -> Tensor:
    """Each centre's features plus the mean of its members: those of which no centre's keys are more alike.

    features: (R, c). keys: (R, D). places: (C,) int64, of the centres among the R; C may be 0. A centre is
    no member, and without members it stays as it is. Returns (C, c) in the dtype of `features`.
    """
    import torch

    if not len(places):
        return features[:0]
    nearest = cosine(keys[places], keys).argmax(dim=0)
    members = nearest == torch.arange(len(places), device=places.device)[:, None]
    weights = members.float().index_fill(1, places, 0.0)
    means = (weights @ features.float()) / weights.sum(dim=1, keepdim=True).clamp(min=1)
    return (features[places].float() + means).to(features.dtype)


def _centres(count: int, stage: VisionStage) -> int:
    return round(count * METHOD.selections["visionzip"].setting(stage, "contextual"))


def _flops(sizes: Sizes, stage: VisionStage) -> int:
    centred = _centres(sizes.kept, stage)
    return 2 * centred * (sizes.tokens - sizes.kept + centred) * (sizes.keys + sizes.width)


METHOD: Method = Method(
    name="visionzip",
    title="VisionZip",
    paper="https://arxiv.org/abs/2412.04467",
    year=2024,
    summary="at the vision tower, tokens of most attention, and a few that the others are merged into",
    scored="vision",
    published={Action.PRUNE: (), Action.REROUTE: AGAIN},
    solver=lambda request: select_first(request, METHOD),
    options={
        **TOWER_OPTIONS,
        "contextual": "share of the kept tokens that others are merged into (default 5/32)",
    },
    shape=FIRST_SHAPE,
    selections={
        "visionzip": Selection(
            frozenset({Need.ATTENTION, Need.KEYS}),
            choose,
            _flops,
            settings={"contextual": 5 / 32},
            bounds={"contextual": SHARE},
        )
    },
)
