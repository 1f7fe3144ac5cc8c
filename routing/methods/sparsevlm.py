"""SparseVLM: the words that look at the picture rank its tokens, three times (https://arxiv.org/abs/2410.04417).

Raters are the text tokens behind the picture to which the visual tokens, by raw dot products of what enters
the decoder, give more than an average share; they are chosen once. A token's score is their attention to it,
averaged over raters and heads. Layers 2, 6 and 15 of 32 rank, and what they rank lowest goes behind them, at
the input of layers 3, 7 and 16 (SparseVLMs, 26a5f48). Keep ratios are x * (30, 20, 11) / 30, the released
table's row for 192 tokens, with x solved for the average that was asked for. That table was made as if tokens
went one layer earlier: its 192 really averages 202.8.

`version=2` is SparseVLM+: attention is divided by what positions alone make of it before it is averaged, and
only 14 of 32 heads count, the same share elsewhere: those with the most such attention from raters to the
candidates. A prompt that would have no raters (one word, or none behind the picture) is rated by all its
words, or by its last token. Positions stay, as in the released version 2; its version 1 numbers them anew.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from routing.errors import ScheduleError
from routing.methods.method import Method, Request, Scorer, Sight
from routing.methods.solver import Weighted, feasible_cuts, fit
from routing.schedule import Action, Schedule, Stage

if TYPE_CHECKING:
    from torch import Tensor

RATERS, LEVEL_RATERS = "raters", "level_raters"
HEADS = 14 / 32  # of the heads, that count in version 2
TABLE = (300, 200, 110)  # tokens kept of 576 by stage, of the released row for 192


def rate(embeddings: Tensor, visual: Tensor, text: Tensor, there: Tensor) -> Tensor:
    """Weights (B, T) float32 that sum to 1: equal ones of the raters, 0 of all other text.

    embeddings: (B, L, d). visual: (B, L) bool. text: (B, T, d), of which `there` (B, T) exist.
    """
    import torch

    alike = embeddings.float() @ text.float().transpose(1, 2)
    shares = alike.masked_fill(~there[:, None], -torch.inf).softmax(dim=-1)
    looked_at = (shares * visual[..., None]).sum(dim=1) / visual.sum(dim=1, keepdim=True).clamp(min=1)
    mean = looked_at.sum(dim=1, keepdim=True) / there.sum(dim=1, keepdim=True)
    raters = (looked_at > mean) & there
    raters = raters.where(raters.any(dim=1, keepdim=True), there).float()
    return raters / raters.sum(dim=1, keepdim=True)


def mean_over_heads(sight: Sight) -> Tensor:
    """The raters' attention (B, S), averaged over heads."""
    assert sight.attention is not None
    return sight.attention.mean(dim=1)


def mean_over_visual_heads(sight: Sight) -> Tensor:
    """The same over those heads alone whose raters look most at the candidates."""
    assert sight.attention is not None
    mass = sight.attention.masked_fill(~sight.candidates[:, None], 0).sum(dim=-1)
    count = max(1, round(HEADS * mass.shape[1]))
    best = mass.argsort(dim=1, descending=True, stable=True)[:, :count, None]
    return sight.attention.gather(1, best.expand(-1, -1, sight.attention.shape[-1])).mean(dim=1)


def _solve(request: Request) -> Schedule:
    version = request.options.get("version", 1)
    if version not in (1, 2):
        raise ScheduleError(f"sparsevlm: version must be 1 or 2, got {version!r}")
    previous = request.choice("scored_by", ("previous", "own")) == "previous"
    first = request.first_layer + previous  # the ranking layer, too, must be one that may decide
    given = request.cuts(above=first - 1)
    cuts = given or METHOD.stages(request.action, request.layers, first, request.last_layer)
    if not cuts:
        raise ScheduleError(f"sparsevlm ranks a layer before it drops: {request.layers} layers are too few")
    curve = Weighted(tuple(TABLE[min(index, 2)] / TABLE[0] for index in range(len(cuts))))
    if given is None:
        cuts = feasible_cuts(replace(request, first_layer=first), cuts, curve)
    keeps = fit(request, cuts, curve)
    return Schedule(
        tuple(Stage(cut, keep, cut - previous) for cut, keep in zip(cuts, keeps, strict=True)),
        action=request.action,
        scorer=RATERS if version == 1 else LEVEL_RATERS,
        rounding=request.rounding,
    )


METHOD = Method(
    name="sparsevlm",
    title="SparseVLM",
    paper="https://arxiv.org/abs/2410.04417",
    year=2024,
    summary="three drops in the decoder, ranked by the words that look at the picture",
    scored="language",
    published={Action.PRUNE: (3, 7, 16), Action.REROUTE: (3, 7, 16)},
    solver=_solve,
    options={
        "cuts": "cut layers in place of the published ones",
        "scored_by": "previous (default) or own: which layer's attention ranks",
        "version": "1 (default) or 2: SparseVLM+, by the heads that look most, whatever the distance",
    },
    scorers={
        RATERS: Scorer(rank=mean_over_heads, rate=rate),
        LEVEL_RATERS: Scorer(rank=mean_over_visual_heads, rate=rate, level=True),
    },
)
