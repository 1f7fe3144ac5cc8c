"""FastV: rank by the attention of the last prompt token, once, early (https://arxiv.org/abs/2403.06764).

Published: K = 3 dense layers of 32, one keep ratio r; r = (L (1 - ratio) - K) / (L - K). Rerouted, the
same keep ratio at layers 3, 7, 15, 23 (the Reroute release's "ours vs FastV"), which costs exactly the
same. The authors score with the attention of layer K-1 and remove at the input of K
(`scored_by="previous"`); the Reroute release, and our default, score with layer K itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from routing.errors import ScheduleError
from routing.methods.method import Method, Request, Scorer, Shape
from routing.methods.solver import (
    LAST_QUERY,
    Weighted,
    feasible_cuts,
    fit,
    scored_earlier,
    scored_stages,
)
from routing.schedule import Action, Schedule, Stage

if TYPE_CHECKING:
    from torch import Tensor


def mean_over_heads(attention: Tensor) -> Tensor:
    """The last prompt token's attention, averaged over heads (FastV, PyramidDrop, Reroute section 3)."""
    return attention.mean(dim=1)[:, -1]


def uniform_stages(request: Request, method: Method | None = None) -> tuple[Stage, ...]:
    """One keep ratio for every cut layer: a single shot under prune, one decision per cut under reroute.

    method: whose cut layers they are unless the request names some; FastV's by default.
    """
    cuts = request.cuts()
    if cuts is None:
        cuts = (method or METHOD).stages(
            request.action, request.layers, request.first_layer, request.last_layer
        )
        cuts = feasible_cuts(request, cuts, Weighted((1.0,) * len(cuts)))
    elif request.action is Action.PRUNE and len(cuts) > 1:
        raise ScheduleError(f"{request.method} prunes once: give one cut layer, got {list(cuts)}")
    keeps = fit(request, cuts, Weighted((1.0,) * len(cuts)))
    return tuple(Stage(cut, keep) for cut, keep in zip(cuts, keeps, strict=True))


def _solve(request: Request) -> Schedule:
    if scored_earlier(request):  # the ranking layer too must be one that may decide
        request = replace(request, first_layer=request.first_layer + 1)
    stages = scored_stages(request, uniform_stages(request))
    return Schedule(stages, action=request.action, rounding=request.rounding)


METHOD = Method(
    name="fastv",
    title="FastV",
    paper="https://arxiv.org/abs/2403.06764",
    year=2024,
    summary="last-token attention ranks the visual tokens once, after three layers",
    scored="language",
    published={Action.PRUNE: (3,), Action.REROUTE: (3, 7, 15, 23)},
    solver=_solve,
    options={
        "cuts": "cut layers in place of the published ones",
        "scored_by": "own (default) or previous: which layer's attention ranks",
    },
    scorers={LAST_QUERY: Scorer(rows=1, reduce=mean_over_heads)},
    shape=Shape("one keep ratio"),
)
