"""VisPruner: half of the tokens for the attention of the CLS token, half for being unlike one another.

Paper: https://arxiv.org/abs/2412.01818; released code aefa01a. Of T tokens int(`important` T) are those of
most attention. The rest are what is left when, again and again, up to eight tokens go that have a likeness
among the others (cosine of features as they leave the tower). K = T, and the average is exact. An odd number
of tokens left crashes the release; here the half in which candidates are looked for is rounded up, and no
more go than that half holds. The release renumbers positions; here they stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from routing.methods.diversity import cosine, real, stacked
from routing.methods.method import Method
from routing.methods.selection import SHARE, Chosen, Need, Seen, Selection, Sizes, in_parts
from routing.methods.solver import AGAIN, FIRST_SHAPE, TOWER_OPTIONS, select_first
from routing.schedule import Action, VisionStage

if TYPE_CHECKING:
    from torch import Tensor

STEP = 8  # tokens that go before likeness is looked at again


@in_parts
def choose(seen: Sequence[Seen], counts: Sequence[int], stage: VisionStage) -> list[Chosen]:
    """A share of the tokens by attention, the others by likeness."""
    import torch

    attentions = [one.attention for one in seen if one.attention is not None]
    orders = [attention.argsort(descending=True, stable=True) for attention in attentions]
    important = [_important(count, stage) for count in counts]
    best = [order[:ours] for order, ours in zip(orders, important, strict=True)]
    if important != list(counts):
        rest = [order[ours:] for order, ours in zip(orders, important, strict=True)]
        features = (one.features[left] for one, left in zip(seen, rest, strict=True))
        sizes = [len(left) for left in rest]
        alike = stacked((cosine(own, own) for own in features), sizes, rest[0].device, 0.0)
        few = thinned(alike, sizes, [count - ours for count, ours in zip(counts, important, strict=True)])
        best = [torch.cat([own, left[one]]) for own, left, one in zip(best, rest, few, strict=True)]
    return [Chosen(kept.sort().values, own) for kept, own in zip(best, attentions, strict=True)]


def thinned(alike: Tensor, sizes: Sequence[int], counts: Sequence[int]) -> list[Tensor]:
    """Which tokens of each image are left after the likest have gone, at most eight at a time.

    alike: (B, W, W) similarities of tokens in the order of their importance. sizes: R of each image, up to W.
    counts: K of each, R >= K >= 1. Each time the first, third, fifth ... of those left are compared with the
    others, the ones most like any of them go, and what is left of them, the likest first, is put before the
    others. Returns (K,) int64 of each.
    """
    import torch

    images, width = alike.shape[:2]
    every, places = (torch.arange(size, device=alike.device) for size in (images, width))
    held, kept = (real(some, width, alike.device).sum(dim=1, keepdim=True) for some in (sizes, counts))
    left, lengths = places.repeat(images, 1), list(sizes)
    while any(length > count for length, count in zip(lengths, counts, strict=True)):
        now = places[: max(lengths)]
        there, half, others = now < held, left[:, : len(now) : 2], left[:, 1 : len(now) : 2]
        other = torch.zeros_like(left).scatter_add(1, others, there[:, 1::2].long()) > 0
        likest = alike[every[:, None], half].masked_fill(~other[:, None], -torch.inf).amax(dim=2)
        likest = likest.masked_fill(~there[:, ::2], -torch.inf).argsort(dim=1, descending=True, stable=True)
        halves = (held + 1) // 2
        gone = torch.minimum(held - kept, halves).clamp(max=STEP)
        ahead = halves - gone  # of the half, before the others
        source = torch.where(now < ahead, now + gone, half.shape[1] + now - ahead).clamp(max=len(now) - 1)
        after = torch.cat([half.gather(1, likest), others], dim=1).gather(1, source)
        left[:, : len(now)] = after.where(gone > 0, left[:, : len(now)])
        held = held - gone
        lengths = [
            length - min(STEP, length - count, (length + 1) // 2)
            for length, count in zip(lengths, counts, strict=True)
        ]
    return [row[:count] for row, count in zip(left, counts, strict=True)]


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
