"""Nuwa: anchors chosen at the vision tower, then one drop halfway down the decoder.

Paper: https://arxiv.org/abs/2602.02951. Published for LLaVA-1.5: S2 = S1 / 7 and the drop at layer 16 of
32, so S1 = L T / (l + (L - l) rho). Where the vision stage can only act from layer f on (deepstack), its
dense layers are
accounted for: S1 = (L T - f N) / (l - f + (L - l) rho). Rerouted, the decoder stage becomes four decisions
at layers 16, 20, 24, 28 with the same keep ratio, and `pool` says whether tokens the vision stage left out
may come back. Towers without a CLS token rank by column means, with the decoder stage over the last three
queries (`vision_scorer="column_mean"`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from routing.errors import ScheduleError
from routing.methods.method import Method, Request, Scorer, Shape
from routing.methods.solver import LAST_QUERY, Weighted, fit, scored_stages
from routing.schedule import Action, Pool, Schedule, Stage, VisionStage

if TYPE_CHECKING:
    from torch import Tensor

LAST_QUERIES = "last_queries_max"
RHO = 1 / 7  # tokens after the decoder stage over tokens after the vision stage; LLaVA-NeXT uses 0.1


def max_of_row_means(attention: Tensor) -> Tensor:
    """Mean over the asking rows, then the most interested head (Nuwa for Qwen2.5-VL, second stage)."""
    return attention.mean(dim=2).amax(dim=1)


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
    shape=Shape("behind a vision stage", rho=RHO, without_class=LAST_QUERIES),
)
