"""SparseVLM: the words that look at the picture rank its tokens, three times (https://arxiv.org/abs/2410.04417).

Raters are the text tokens behind the picture to which the visual tokens, by raw dot products of what enters
the decoder, give more than an average share; they are chosen once. A token's score is their attention to it,
averaged over raters and heads. Layers 2, 6 and 15 of 32 rank, and what they rank lowest goes behind them, at
the input of layers 3, 7 and 16 (SparseVLMs, 26a5f48). Keep ratios are x * (30, 20, 11) / 30, the released
table's row for 192 tokens, with x solved for the average that was asked for. That table was made as if tokens
went one layer earlier: its 192 really averages 202.8.

Version 1 recycles: of the tokens that a drop removes, the best 30% are clustered (DPC-kNN) into a tenth as
many, and each cluster lives on as the mean of its members. Here it does so in the place of its centre; the
release appends it behind the other visual tokens and numbers positions anew. What is kept counts both: K
tokens, of which the best by score are as they were, and the rest are clusters. The released counts leave
clusters out: with them, its 192 averages 206.5. How many neighbours make a density is taken from FlashVID.
Only pruning recycles: rerouted tokens wait with their own states.

`version=2` is SparseVLM+: attention is divided by what positions alone make of it before it is averaged, and
only 14 of 32 heads count, the same share elsewhere: those with the most such attention from raters to the
candidates. Where no word gets more than the others (there is but one) all of them rate.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from routing.errors import ScheduleError
from routing.methods.diversity import cluster_means, dpc_knn
from routing.methods.method import Method, Request, Scorer, Shape, Sight
from routing.methods.solver import Weighted, feasible_cuts, fit
from routing.schedule import Action, Schedule, Stage

if TYPE_CHECKING:
    from torch import Tensor

RATERS, RECYCLED_RATERS, LEVEL_RATERS = "raters", "recycled_raters", "level_raters"
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


def recycle(states: Tensor, scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The kept (count,) of n candidates: the best as they are, then centres with the mean of their cluster.

    states: (n, d). scores: (n,). Returns their places, not in order, and their states (count, d).
    """
    import torch

    best = best_of(len(states), count)
    order = scores.argsort(descending=True, stable=True)
    if best == count:
        return order[:best], states[order[:best]]
    pool = order[best : best + _recycled(len(states) - best)]
    recycled = states[pool].flatten(1)[None]
    centres, cluster = dpc_knn(recycled, count - best)
    means = cluster_means(recycled, cluster, count - best)
    kept = torch.cat([order[:best], pool[centres[0]]])
    means = means.to(states.dtype).view(-1, *states.shape[1:])
    return kept, torch.cat([states[order[:best]], means])


def best_of(tokens: int, count: int) -> int:
    """How many of the `count` kept of `tokens` are kept as they are; with their clusters they are `count`.

    At least one is; then there may be fewer clusters than a tenth of what is recycled.
    """
    fits = (best for best in range(count, 0, -1) if best + _recycled(tokens - best) // 10 + 1 <= count)
    return next(fits, 1)


def _recycled(removed: int) -> int:
    """How many of the removed tokens are clustered."""
    return int(0.3 * removed) + 1


def recycling_flops(tokens: int, count: int, width: int) -> int:
    """Of the distances among the recycled tokens, and of the means of their clusters."""
    best = best_of(tokens, count)
    recycled = _recycled(tokens - best)
    return 2 * recycled * width * (recycled + count - best) if best < count else 0


def _solve(request: Request) -> Schedule:
    version = request.options.get("version", 1)
    if isinstance(version, bool) or version not in (1, 2):
        raise ScheduleError(f"sparsevlm: version must be 1 or 2, got {version!r}")
    may_recycle = version == 1 and request.action is Action.PRUNE
    if (recycles := request.options.get("recycle", may_recycle)) not in (False, may_recycle):
        raise ScheduleError(f"sparsevlm: only version 1 recycles, where it prunes; got recycle={recycles!r}")
    scorer = LEVEL_RATERS if version == 2 else RECYCLED_RATERS if recycles else RATERS
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
        scorer=scorer,
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
        "recycle": "yes (default of version 1 where it prunes) or no: clusters of what goes live on",
        "version": "1 (default) or 2: SparseVLM+, by the heads that look most, whatever the distance",
    },
    shape=Shape("by a ranking of its own", decay=0.6),
    scorers={
        RATERS: Scorer(rank=mean_over_heads, rate=rate),
        RECYCLED_RATERS: Scorer(rank=mean_over_heads, rate=rate, merge=recycle, merge_flops=recycling_flops),
        LEVEL_RATERS: Scorer(rank=mean_over_visual_heads, rate=rate, level=True),
    },
)
