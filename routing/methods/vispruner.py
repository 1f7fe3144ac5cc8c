"""VisPruner: half of the tokens for the attention of the CLS token, half for being unlike one another.

Paper: https://arxiv.org/abs/2412.01818; released code aefa01a. Of T tokens int(`important` T) are those of
most attention. The rest are what is left when, again and again, up to eight tokens go that have a likeness
among the others (cosine of features as they leave the tower). K = T, and the average is exact. An odd number
of tokens left crashes the release; here the half in which candidates are looked for is rounded up, and no
more go than that half holds. The release renumbers positions; here they stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from routing.methods.diversity import cosine
from routing.methods.method import Method
from routing.methods.selection import SHARE, Chosen, Need, Seen, Selection, Sizes
from routing.methods.solver import AGAIN, FIRST_SHAPE, TOWER_OPTIONS, select_first
from routing.schedule import Action, VisionStage

if TYPE_CHECKING:
    from torch import Tensor

STEP = 8  # tokens that go before likeness is looked at again


def choose(seen: Seen, count: int, stage: VisionStage) -> Chosen:
    """A share of the `count` by attention, the others by likeness."""
    return important_first(seen, count, _important(count, stage))


def important_first(seen: Seen, count: int, important: int) -> Chosen:
    """`important` tokens by attention, and of the others as many as make `count`, the least alike."""
    import torch

    attention = seen.attention
    assert attention is not None
    order = attention.argsort(descending=True, stable=True)
    kept = order[:important]
    if important < count:
        rest = order[important:]
        others = seen.features[rest]
        kept = torch.cat([kept, rest[thinned(cosine(others, others), count - important)]])
    return Chosen(kept.sort().values, attention)


def thinned(alike: Tensor, count: int) -> Tensor:
    """Which `count` of R tokens are left after the likest have gone, at most eight at a time.

    alike: (R, R) similarities of tokens in the order of their importance, R >= count >= 1. Each time the
    first, third, fifth ... of those left are compared with the others, the ones most like any of them go, and
    what is left of them, the likest first, is put before the others. Returns (count,) int64.
    """
    import torch

    left = torch.arange(len(alike), device=alike.device)
    while len(left) > count:
        half, others = left[::2], left[1::2]
        gone = min(STEP, len(left) - count, len(half))
        likest = alike[half][:, others].amax(dim=1).argsort(descending=True, stable=True)
        left = torch.cat([half[likest[gone:]], others])
    return left


def _important(count: int, stage: VisionStage) -> int:
    return int(count * METHOD.selections["vispruner"].setting(stage, "important"))


def _flops(sizes: Sizes, stage: VisionStage) -> int:
    important = _important(sizes.kept, stage)
    return 2 * (sizes.tokens - important) ** 2 * sizes.width if important < sizes.kept else 0


METHOD: Method = Method(
    name="vispruner",
    title="VisPruner",
    paper="https://arxiv.org/abs/2412.01818",
    year=2024,
    summary="at the vision tower, tokens of most attention and, of the others, the least alike",
    scored="vision",
    published={Action.PRUNE: (), Action.REROUTE: AGAIN},
    solver=lambda request: select_first(request, METHOD),
    options={
        **TOWER_OPTIONS,
        "important": "share of the kept tokens that attention chooses (default 0.5)",
    },
    shape=FIRST_SHAPE,
    selections={
        "vispruner": Selection(
            frozenset({Need.ATTENTION}),
            choose,
            _flops,
            settings={"important": 0.5},
            bounds={"important": SHARE},
        )
    },
)
