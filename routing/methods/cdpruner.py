"""CDPruner: tokens that differ, weighted by the question (https://arxiv.org/abs/2506.10967).

A determinantal point process over L_ij = r_i S_ij r_j: S is the cosine similarity of the features that enter
the decoder, r how like the question's text a token is, rescaled to (0, 1]. Tokens are found one by one, each
of them the one that adds most to the determinant. K = T, and the average is exact.

The release (9541616) compares features and question in the joint space of CLIP, by its text tower, which no
checkpoint of LLaVA carries, and turns the sign: there a patch is less like a text that it shows. Here a token
is compared with the prompt's text behind it, as both enter the decoder, and the sign stays, as in the Qwen
port of openvino.genai; `relevance` takes either, CLIP's features negated. It is rescaled over each sample;
the release does that over the batch, so that answers depend on their neighbours. It renumbers positions, too;
here they stay.

Features of d numbers use the kernel up with d tokens: the determinant is 0 whatever else is chosen. The
release goes on by what rounding leaves of the gains, and once that is negative, its root is no number, and
tokens 0 and 1 are taken in turn: of 40 tokens of 32 numbers that a published case asks for, 38 differ. Here
a token whose gain is no more than rounding adds nothing, and those that add nothing follow by relevance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from routing.methods.diversity import above, cosine, real, stacked
from routing.methods.method import Method
from routing.methods.selection import Chosen, Need, Seen, Selection, Sizes, in_parts
from routing.methods.solver import AGAIN, FIRST_OPTIONS, FIRST_SHAPE, select_first
from routing.schedule import Action, VisionStage

if TYPE_CHECKING:
    from torch import Tensor

_EPSILON = 1e-6  # no token's relevance is 0, and no division by it
_ROUNDING = 1e-5  # of what a token adds alone: no more is left of it in float32 where nothing should be


@in_parts
def choose(seen: Sequence[Seen], counts: Sequence[int], _stage: VisionStage) -> list[Chosen]:
    """Of each sample the tokens that differ most, given the text behind them."""
    weights = []
    for one in seen:
        assert one.text is not None
        weights.append(relevance(one.features, one.text))
    found = most_different([one.features for one in seen], weights, counts)
    return [Chosen(order.sort().values, above(gains, order)) for order, gains in found]


def relevance(images: Tensor, texts: Tensor) -> Tensor:
    """How like the texts each token is, between 0 and 1: (V,) float32; 1 without any text.

    images: (V, c). texts: (T, c) in the same space, T may be 0.
    """
    if not len(texts):
        return images.new_ones(len(images)).float()
    likeness = cosine(images, texts).mean(dim=1)
    spread = likeness.max() - likeness.min()
    return (likeness - likeness.min() + _EPSILON) / spread.clamp(min=_EPSILON)


def most_different(
    features: Sequence[Tensor], weights: Sequence[Tensor], counts: Sequence[int]
) -> list[tuple[Tensor, Tensor]]:
    """Greedy maximum of the determinant of w_i w_j cosine(i, j) over K tokens of each sample.

    features: (V, d) each. weights: (V,) float32 each, w. counts: K of each, never rising. Returns of each the
    chosen (K,) int64 in order, and what each token still adds (V,), -inf for the chosen. Tokens that add
    nothing, but for rounding, come last, by their weights.
    """
    import torch

    sizes, device = [len(one) for one in features], features[0].device
    weighted = (one[:, None] * cosine(own, own) * one for own, one in zip(features, weights, strict=True))
    kernel = stacked(weighted, sizes, device, 0.0)
    alone, there = kernel.diagonal(dim1=1, dim2=2), real(sizes, max(sizes), device)
    gains, tiny = alone.masked_fill(~there, -torch.inf), torch.finfo(alone.dtype).tiny
    least, last = _ROUNDING * alone, -1 / alone.clamp(min=tiny)
    every, order = torch.arange(len(sizes), device=device), there.new_zeros(there.shape, dtype=torch.int64)
    rows = kernel.new_zeros(len(sizes), counts[0], max(sizes))  # of the Cholesky factor of the chosen
    for step in range(counts[0]):
        some = sum(count > step for count in counts)
        left = gains[:some]
        rank = left.where(left > least[:some], last[:some]).masked_fill(left.isneginf(), -torch.inf)
        newest = rank.argmax(dim=1, keepdim=True)
        order[:some, step] = newest[:, 0]
        going = sum(count > step + 1 for count in counts)
        if going:
            own, before = newest[:going], rows[:going, :step]
            row = kernel[every[:going], own[:, 0]]
            if step:
                row = row - (before[every[:going], :, own[:, 0]][:, None] @ before)[:, 0]
            gain = left[:going].gather(1, own)
            adds = gain > least[:going].gather(1, own)
            rows[:going, step] = row = torch.where(adds, row / gain.clamp(min=tiny).sqrt(), 0.0)
            left[:going] -= row**2
        left.scatter_(1, newest, -torch.inf)
    return [
        (order[image, :count], gains[image, :size])
        for image, (size, count) in enumerate(zip(sizes, counts, strict=True))
    ]


def _flops(sizes: Sizes, _stage: VisionStage) -> int:
    steps = (sizes.kept - 1) * (sizes.kept - 2)  # the rows so far, at each step: 2 (0 + 1 + ...)
    return sizes.tokens * (2 * (sizes.tokens + sizes.text) * sizes.width + steps)


METHOD: Method = Method(
    name="cdpruner",
    title="CDPruner",
    paper="https://arxiv.org/abs/2506.10967",
    year=2025,
    summary="before the decoder, visual tokens that differ from one another, weighted by the question's text",
    scored="vision",
    published={Action.PRUNE: (), Action.REROUTE: AGAIN},
    solver=lambda request: select_first(request, METHOD),
    options=FIRST_OPTIONS,
    shape=FIRST_SHAPE,
    selections={"cdpruner": Selection(frozenset({Need.TEXT}), choose, _flops)},
)
