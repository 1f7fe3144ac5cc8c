"""PyramidDrop: several drops, deeper layers keep less (https://arxiv.org/abs/2410.17247).

Cut layers 2, 7, 15, 23 of 32 as in the Reroute release's early variant. Pruned, keep ratios are x, x^2,
x^3, x^4 with x from bisection. Rerouted, they are the release's pyramid a * (1, 1, 1/2, 1/4): a = (L (1 -
ratio) - s_0) / sum_j s_j w_j, and a may not exceed 1. The authors' own default (layers 8, 16, 24, keeping
1/2, 1/4, 1/8) is `cuts=(8, 16, 24)` at ratio 0.53125.
"""

from __future__ import annotations

from routing.methods.method import Method, Request, Shape
from routing.methods.solver import Curve, Geometric, Weighted, feasible_cuts, fit
from routing.schedule import Action, Schedule, Stage


def _solve(request: Request) -> Schedule:
    given = request.cuts()
    cuts = given or METHOD.stages(request.action, request.layers, request.first_layer, request.last_layer)
    heights = tuple(0.5 ** max(0, index - 1) for index in range(len(cuts)))  # 1, 1, 1/2, 1/4 and on
    curve: Curve = Geometric(len(cuts)) if request.action is Action.PRUNE else Weighted(heights)
    if given is None:
        cuts = feasible_cuts(request, cuts, curve)
    keeps = fit(request, cuts, curve)
    stages = tuple(Stage(cut, keep) for cut, keep in zip(cuts, keeps, strict=True))
    return Schedule(stages, action=request.action, rounding=request.rounding)


METHOD = Method(
    name="pdrop",
    title="PyramidDrop",
    paper="https://arxiv.org/abs/2410.17247",
    year=2024,
    summary="several drops by last-token attention, each stage keeping less than the one before",
    scored="language",
    published={Action.PRUNE: (2, 7, 15, 23), Action.REROUTE: (2, 7, 15, 23)},
    solver=_solve,
    options={"cuts": "cut layers in place of the published ones"},
    shape=Shape("a falling one", decay=0.5),
)
