"""No reduction: the dense model, as a method like the others so that every table has its baseline."""

from __future__ import annotations

from routing.errors import BudgetError
from routing.methods.method import Method, Request
from routing.schedule import Action, Schedule


def _solve(request: Request) -> Schedule:
    if request.ratio > 0:
        raise BudgetError(
            f"none keeps every visual token: its ratio is 0, not {request.ratio:g} (choose another method)",
            nearest=0.0,
        )
    return Schedule(action=request.action, rounding=request.rounding)


METHOD = Method(
    name="none",
    title="Dense",
    paper="",
    year=0,
    summary="every visual token in every layer: the baseline",
    scored="none",
    published={Action.PRUNE: (), Action.REROUTE: ()},
    solver=_solve,
)
