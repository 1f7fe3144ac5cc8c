"""Nuwa: anchors chosen at the vision tower, then one drop halfway down the decoder.

Paper: https://arxiv.org/abs/2602.02951. Published for LLaVA-1.5: S2 = S1 / 7 and the drop at layer 16 of
32, so S1 = L T / (l + (L - l) rho). Where the vision stage can only act from layer f on (deepstack), its
dense layers are
accounted for: S1 = (L T - f N) / (l - f + (L - l) rho). Rerouted, the decoder stage becomes four decisions
at layers 16, 20, 24, 28 with the same keep ratio, and `pool` says whether tokens the vision stage left out
may come back. Towers without a CLS token rank by column means, with the decoder stage over the last three
queries (`vision_scorer="column_mean"`).

Its first stage follows the released code (175b7d5); where that is wrong or silent, the function says what is
done instead.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from routing.errors import ScheduleError
from routing.methods.method import Method, Request, Scorer, Shape
from routing.methods.selection import Chosen, Need, Seen, Selection, each
from routing.methods.solver import LAST_QUERY, Weighted, fit, scored_stages
from routing.schedule import Action, Pool, Schedule, Stage, VisionStage

if TYPE_CHECKING:
    from torch import Tensor

LAST_QUERIES = "last_queries_max"
RADIUS = {"cls": math.sqrt(280 / 1058), "column_mean": 0.8}  # published tau / diagonal of the grid
PROTECT = {"cls": 0.55, "column_mean": 0.1}  # published quantiles
_REGION = 2  # regions are 2 x 2 cells
_EPSILON = 1e-8
RHO = 1 / 7  # tokens after the decoder stage over tokens after the vision stage; LLaVA-NeXT uses 0.1


def max_of_row_means(attention: Tensor) -> Tensor:
    """Mean over the asking rows, then the most interested head (Nuwa for Qwen2.5-VL, second stage)."""
    return attention.mean(dim=2).amax(dim=1)


def select_anchors(scores: Tensor, grid: tuple[int, int], count: int) -> Tensor:
    """The `count` anchors of one image: best `top_n` of each 2x2 region, then the best of those overall.

    scores: (V,), higher is better, V = h * w. Returns (count,) int64 raster indices, ascending.
    top_n = ceil(count / regions), at most 4; equal scores go to the lower index.

    Mends the release: on an odd grid its regions left the last row and column out (LLaVA-NeXT), or padded
    them with zeros and then lost the anchors that fell into the padding (Qwen). Here the edge regions are
    just smaller, and where that leaves fewer candidates than `count`, the best other tokens fill up, so that
    exactly `count` survive.
    """
    assert 0 < count <= scores.numel() == grid[0] * grid[1]
    regions = math.ceil(grid[0] / _REGION) * math.ceil(grid[1] / _REGION)
    top_n = min(_REGION**2, math.ceil(count / regions))
    order = scores.argsort(descending=True, stable=True)
    outside = _rank_in_region(scores, grid)[order] >= top_n
    order = order[outside.byte().argsort(stable=True)]
    return order[:count].sort().values


def aggregate(
    features: Tensor,
    similarity: Tensor,
    scores: Tensor,
    anchors: Tensor,
    grid: tuple[int, int],
    tau: float,
    protect: float,
    overwrite_self: bool,
) -> Tensor:
    """The anchors' features with their surroundings folded in; memory is K x V, never V x V.

    features: (V, d), what is summed. similarity: (V, c), whose cosine says how alike two tokens are.
    The other arguments are those of `aggregation_weights`. Returns (K, d) in the dtype of `features`.
    """
    weights = aggregation_weights(similarity, scores, anchors, grid, tau, protect, overwrite_self)
    return (weights @ features.float()).to(features.dtype)


def aggregation_weights(
    similarity: Tensor,
    scores: Tensor,
    anchors: Tensor,
    grid: tuple[int, int],
    tau: float,
    protect: float,
    overwrite_self: bool,
) -> Tensor:
    """How much of each token goes into each anchor: (K, V) float32.

    w(a, q) = relu(cosine(a, q)) * max(0, 1 - distance(a, q) / tau), w(a, a) = 1, divided by the row's sum.
    tau: radius in grid cells. protect: anchors whose score reaches this quantile of the anchors' scores take
    nothing in. overwrite_self: put w(a, a) back to 1 after the division (Nuwa for LLaVA: merged rows then sum
    to between 1 and 2); without it rows sum to 1 (Nuwa for Qwen).
    """
    import torch
    import torch.nn.functional as F

    assert tau > 0
    unit = F.normalize(similarity.float(), dim=-1)
    cells = torch.arange(grid[0] * grid[1], device=anchors.device)
    row, column = (cells // grid[1]).float(), (cells % grid[1]).float()
    squared = (row[anchors, None] - row) ** 2 + (column[anchors, None] - column) ** 2
    weights = (unit[anchors] @ unit.T).relu() * (1 - squared.sqrt() / tau).clamp(min=0)
    ranks = scores[anchors].float()
    weights[ranks >= torch.quantile(ranks, protect)] = 0  # interpolated linearly
    weights.scatter_(1, anchors[:, None], 1.0)
    weights = weights / (weights.sum(dim=-1, keepdim=True) + _EPSILON)
    return weights.scatter(1, anchors[:, None], 1.0) if overwrite_self else weights


def diagonal(grid: tuple[int, int]) -> float:
    """Distance in cells between opposite corners of the grid."""
    return math.hypot(grid[0] - 1, grid[1] - 1)


def _rank_in_region(scores: Tensor, grid: tuple[int, int]) -> Tensor:
    """(V,) position, from 0, of each token among the tokens of its region, best first."""
    import torch.nn.functional as F

    height, width = grid
    down, right = height % _REGION, width % _REGION
    padded = F.pad(scores.float().view(height, width), (0, right, 0, down), value=-math.inf)
    rows, columns = padded.shape[0] // _REGION, padded.shape[1] // _REGION
    regions = padded.view(rows, _REGION, columns, _REGION).transpose(1, 2).reshape(rows, columns, -1)
    ranks = regions.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    ranks = ranks.view(rows, columns, _REGION, _REGION).transpose(1, 2).reshape(padded.shape)
    return ranks[:height, :width].flatten()


@each
def choose(seen: Seen, count: int, stage: VisionStage) -> Chosen:
    """The anchors, with their surroundings folded in."""
    grid, scores, states = seen.grid, seen.attention, seen.states
    assert grid is not None
    assert scores is not None
    assert states is not None
    anchors = select_anchors(scores, grid, count)
    merged = aggregate(
        seen.features,
        states,
        scores,
        anchors,
        grid,
        tau=RADIUS[stage.scorer] * diagonal(grid) if stage.tau is None else stage.tau,
        protect=PROTECT[stage.scorer] if stage.protect is None else stage.protect,
        overwrite_self=stage.scorer == "cls",
    )
    return Chosen(anchors, scores, seen.features.index_copy(0, anchors, merged))


def _solve(request: Request) -> Schedule:
    rho = request.options.get("rho", RHO)
    if isinstance(rho, bool) or not isinstance(rho, int | float) or not 0 < rho <= 1:
        raise ScheduleError(f"nuwa: rho must be above 0 and at most 1, got {rho!r}")
    cuts = request.cuts(above=request.first_layer)
    if cuts is None:
        cuts = METHOD.stages(request.action, request.layers, request.first_layer + 1, request.last_layer)
    elif request.action is Action.PRUNE and len(cuts) > 1:
        raise ScheduleError(f"nuwa prunes once in the decoder: give one cut layer, got {list(cuts)}")
    keeps = fit(request, (request.first_layer, *cuts), Weighted((1.0, *([float(rho)] * len(cuts)))))
    stages = tuple(Stage(cut, keep) for cut, keep in zip(cuts, keeps[1:], strict=True))
    vision_scorer = request.choice("vision_scorer", ("cls", "column_mean"))
    return Schedule(
        scored_stages(request, stages) if stages else (),
        action=request.action,
        scorer=LAST_QUERY if vision_scorer == "cls" else LAST_QUERIES,
        vision=VisionStage(keeps[0], layer=request.first_layer, scorer=vision_scorer),
        pool=Pool(request.choice("pool", ("all", "anchors"))),
        rounding=request.rounding,
    )


METHOD = Method(
    name="nuwa",
    title="Nuwa",
    paper="https://arxiv.org/abs/2602.02951",
    year=2026,
    summary="spatial anchors chosen and enriched at the vision tower, then a drop halfway down the decoder",
    scored="vision+language",
    published={Action.PRUNE: (16,), Action.REROUTE: (16, 20, 24, 28)},
    solver=_solve,
    options={
        "cuts": "decoder cut layers in place of the published ones",
        "rho": "tokens after the decoder stage over tokens after the vision stage (default 1/7)",
        "pool": "all (default) or anchors: what rerouting may choose from after the vision stage",
        "vision_scorer": "cls (default) or column_mean, for vision towers without a CLS token",
        "scored_by": "own (default) or previous: which layer's attention ranks",
    },
    scorers={LAST_QUERIES: Scorer(rows=3, reduce=max_of_row_means)},
    selections={
        "anchors": Selection(
            frozenset({Need.ATTENTION, Need.STATES}),
            choose,
            lambda sizes, _stage: 2 * sizes.kept * sizes.tokens * (sizes.states + sizes.width),
        )
    },
    shape=Shape("behind a vision stage", rho=RHO),
)
