"""Random choice at FastV's layers and budget: the control that says what a ranking is worth.

The choice is seeded (`seed=`), so that a run can be repeated. Not a published method.
"""

from __future__ import annotations

from routing.methods.fastv import METHOD as FASTV
from routing.methods.fastv import uniform_stages
from routing.methods.method import Method, Request
from routing.schedule import Schedule


def _solve(request: Request) -> Schedule:
    return Schedule(
        uniform_stages(request),
        action=request.action,
        scorer="random",
        rounding=request.rounding,
        seed=request.options.get("seed", 0),
    )


METHOD = Method(
    name="random",
    title="Random",
    paper="",
    year=0,
    summary="FastV's layers and budget with a seeded random choice: the control",
    scored="none",
    published=FASTV.published,
    solver=_solve,
    options={
        "cuts": "cut layers in place of FastV's",
        "seed": "whole number that fixes the choice (default 0)",
    },
)
