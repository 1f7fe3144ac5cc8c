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
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from routing.methods.diversity import above, cosine
from routing.methods.method import Method
from routing.methods.selection import Chosen, Need, Seen, Selection, Sizes
from routing.methods.solver import AGAIN, FIRST_OPTIONS, FIRST_SHAPE, select_first
from routing.schedule import Action, VisionStage

if TYPE_CHECKING:
    from torch import Tensor

_EPSILON = 1e-6  # no token's relevance is 0, and no division by it


def choose(seen: Seen, count: int, _stage: VisionStage) -> Chosen:
    """The `count` tokens that differ most, given the text behind them."""
    assert seen.text is not None
    order, gains = most_different(seen.features, relevance(seen.features, seen.text), count)
    return Chosen(order.sort().values, above(gains, order))


def relevance(images: Tensor, texts: Tensor) -> Tensor:
    """How like the texts each token is, between 0 and 1: (V,) float32; 1 without any text.

    images: (V, c). texts: (T, c) in the same space, T may be 0.
    """
    if not len(texts):
        return images.new_ones(len(images)).float()
    likeness = cosine(images, texts).mean(dim=1)
    spread = likeness.max() - likeness.min()
    return (likeness - likeness.min() + _EPSILON) / spread.clamp(min=_EPSILON)


def most_different(features: Tensor, weights: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Greedy maximum of the determinant of w_i w_j cosine(i, j) over `count` tokens.

    features: (V, d). weights: (V,) float32, w. Returns the chosen (count,) int64 in order, and what each
    token still adds (V,), -inf for the chosen. Once no token adds anything,
    rounding decides among the others (the release then takes tokens twice).
    """
    import torch

    kernel = weights[:, None] * cosine(features, features) * weights
    gains, order = kernel.diagonal().clone(), [kernel.diagonal().argmax()[None]]
    rows = kernel.new_zeros(count, len(kernel))  # of the Cholesky factor of the chosen
    for number in range(count - 1):
        newest = order[-1]
        row = kernel.index_select(0, newest)
        if number:
            row = row - rows[:number].index_select(1, newest).T @ rows[:number]
        rows[number] = row[0] / gains.index_select(0, newest).clamp(min=_EPSILON).sqrt()
        gains = (gains - rows[number] ** 2).index_fill(0, newest, -torch.inf)
        order.append(gains.argmax()[None])
    return torch.cat(order), gains.index_fill(0, order[-1], -torch.inf)


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
