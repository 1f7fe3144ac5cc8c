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

    features: (V, d) each. weights: (V,) float32 each, w. counts: K of each, V > K >= 1. Returns of each the
    chosen (K,) int64 in order, and what each token still adds (V,), -inf for the chosen. Tokens that add
    nothing, but for rounding, come last, by their weights.
    """
    import torch

    sizes, most, device = [len(one) for one in features], max(counts), features[0].device
    weighted = (one[:, None] * cosine(own, own) * one for own, one in zip(features, weights, strict=True))
    kernel = stacked(weighted, sizes, device, 0.0)
    alone, every = kernel.diagonal(dim1=1, dim2=2), torch.arange(len(sizes), device=device)
    there, asked = (real(some, max(sizes), device) for some in (sizes, counts))
    gains, tiny = alone.masked_fill(~there, -torch.inf), torch.finfo(alone.dtype).tiny
    least, last = _ROUNDING * alone, -1 / alone.clamp(min=tiny)
    order = there.new_zeros((len(sizes), most), dtype=torch.int64)
    rows = kernel.new_zeros(len(sizes), most, max(sizes))  # of the Cholesky factor of the chosen
    for step in range(most):
        rank = gains.where(gains > least, last).masked_fill(gains.isneginf(), -torch.inf)
        order[:, step] = newest = rank.argmax(dim=1)
        gain = gains[every, newest, None]
        gains = gains.scatter(1, newest[:, None], -torch.inf).where(asked[:, step, None], gains)
        if step < most - 1:
            row = kernel[every, newest]
            if step:
                row = row - (rows[every, :step, newest][:, None] @ rows[:, :step])[:, 0]
            adds = (gain > least[every, newest, None]) & asked[:, step + 1, None]
            rows[:, step] = row = torch.where(adds, row / gain.clamp(min=tiny).sqrt(), 0.0)
            gains = gains - row**2
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
