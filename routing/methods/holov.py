"""HoloV: tokens are dealt to strips of the image before attention chooses inside of each.

Paper: https://arxiv.org/abs/2510.02912; released code 1d2e65e. Tokens in raster order are cut into `chunks`
strips of equal length (the last may be shorter). A token's score is its CLS attention plus 0.09 times the
variance of its cosine similarities to the others of its strip, rescaled so that over the image its mean is
that of the attention. A strip gets floor(T m / sum of m) tokens, m the mean of its scores, and what that
leaves over goes one by one to the strips of largest m. Inside of a strip attention alone chooses. K = T, and
the average is exact. A strip gives no more than it has, and the next ones give the rest (the release fills up
with zero vectors); order and positions stay (the release keeps a strip's tokens in the order of attention).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from routing.methods.method import Method
from routing.methods.selection import Bounds, Chosen, Need, Seen, Selection, Sizes, each
from routing.methods.solver import AGAIN, FIRST_SHAPE, TOWER_OPTIONS, select_first
from routing.schedule import Action, VisionStage

if TYPE_CHECKING:
    from torch import Tensor

VARIANCE_WEIGHT = 0.09
_EPSILON = 1e-12  # of a variance


@each
def choose(seen: Seen, count: int, stage: VisionStage) -> Chosen:
    """Quotas by strip, then each strip's best by attention; `scores` are the tokens' own."""
    import torch
    import torch.nn.functional as F

    attention, length = seen.attention, _length(len(seen.features), stage)
    assert attention is not None
    variance = variances(seen.features, length)
    scores = attention + VARIANCE_WEIGHT * attention.mean() * variance / variance.mean().clamp(min=_EPSILON)
    strips = F.pad(scores, (0, -len(scores) % length), value=torch.nan).view(-1, length)
    means = strips.nanmean(dim=1)
    quotas = (count * means / means.sum()).floor()
    ranks = F.pad(attention, (0, -len(scores) % length), value=-torch.inf).view(-1, length)
    ranks = ranks.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    beyond = (ranks - quotas[:, None] + 1).clamp(min=0)  # how many more than its quota a strip gives with it
    largest = means.argsort(descending=True, stable=True).argsort()
    turn = (beyond * len(means) + largest[:, None] * (beyond > 0)).flatten()[: len(scores)]
    return Chosen(turn.argsort(stable=True)[:count].sort().values, scores)


def variances(features: Tensor, length: int) -> Tensor:
    """Variance of each token's cosine similarities to the others of its strip: (V,) float32, 0 alone in one.

    features: (V, c), of which every `length` in a row are a strip.
    """
    import torch
    import torch.nn.functional as F

    tokens = len(features)
    units = F.pad(F.normalize(features.float(), dim=-1), (0, 0, 0, -tokens % length))
    units = units.view(-1, length, features.shape[-1])
    alike = units @ units.transpose(1, 2)
    real = (torch.arange(len(units) * length, device=features.device) < tokens).view(-1, 1, length)
    other = real & ~torch.eye(length, dtype=torch.bool, device=features.device)
    others = other.sum(dim=-1, keepdim=True).clamp(min=1)
    means = (alike * other).sum(dim=-1, keepdim=True) / others
    spread: Tensor = (((alike - means) ** 2 * other).sum(dim=-1, keepdim=True) / others).flatten()[:tokens]
    return spread


def _length(tokens: int, stage: VisionStage) -> int:
    return math.ceil(tokens / METHOD.selections["holov"].setting(stage, "chunks"))


def _flops(sizes: Sizes, stage: VisionStage) -> int:
    length = _length(sizes.tokens, stage)
    return 2 * math.ceil(sizes.tokens / length) * length**2 * sizes.width


METHOD: Method = Method(
    name="holov",
    title="HoloV",
    paper="https://arxiv.org/abs/2510.02912",
    year=2025,
    summary="at the vision tower, each strip of the image its own number of tokens, chosen by attention",
    scored="vision",
    published={Action.PRUNE: (), Action.REROUTE: AGAIN},
    solver=lambda request: select_first(request, METHOD),
    options={**TOWER_OPTIONS, "chunks": "strips that the tokens of an image are cut into (default 16)"},
    shape=FIRST_SHAPE,
    selections={
        "holov": Selection(
            frozenset({Need.ATTENTION}),
            choose,
            _flops,
            settings={"chunks": 16},
            bounds={"chunks": Bounds(least=1, whole=True)},
        )
    },
)
