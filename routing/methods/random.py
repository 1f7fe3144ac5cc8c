"""Random choice at FastV's layers and budget: the control that says what a ranking is worth.

The choice is seeded (`seed=`), so that a run can be repeated. Not a published method.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from routing.methods.fastv import METHOD as FASTV
from routing.methods.fastv import uniform_stages
from routing.methods.method import Method, Request, Scorer, Shape
from routing.schedule import Schedule

if TYPE_CHECKING:
    from torch import Tensor


def draw(seed: int, stage: int, prompt: list[int], visual: int) -> Tensor:
    """Uniform scores (V,) on the CPU that depend on the seed, the stage and the prompt's own tokens alone.

    So a sample gets the same draw alone, in any batch and under any padding.
    """
    from torch import Generator, rand

    digest = hashlib.sha256(repr((seed, stage, prompt)).encode()).digest()
    return rand(visual, generator=Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1))


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
    scorers={"random": Scorer(draw=draw)},
    shape=Shape("by a ranking of its own"),
    options={
        "cuts": "cut layers in place of FastV's",
        "seed": "whole number that fixes the choice (default 0)",
    },
)
