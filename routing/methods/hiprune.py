"""HiPrune: what an early layer of the vision tower attends to with its neighbours, then what a late one does.

Paper: https://arxiv.org/abs/2508.00553; released code 6e83a12. Both rankings are attention from all tokens:
round(`alpha` T / 5) anchors by the early layer, the tokens left, right, above and below of each, and the best
by the late layer until there are T. K = T, and the average is exact. Neighbours stay inside the grid (the
release counts on past the end of a row into the next). Where anchors and neighbours are more than T, the
neighbours that the late layer ranks lowest stay out. The release renumbers positions in LLaVA; here they
stay, as in its Qwen port.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from routing.methods.method import Method
from routing.methods.selection import SHARE, Chosen, Need, Seen, Selection, each
from routing.methods.solver import AGAIN, FIRST_OPTIONS, FIRST_SHAPE, select_first
from routing.schedule import Action, VisionStage

if TYPE_CHECKING:
    from torch import Tensor

CROSS = 5  # an anchor and its neighbours


@each
def choose(seen: Seen, count: int, stage: VisionStage) -> Chosen:
    """Anchors before their neighbours before all others, each kind by the late layer."""
    import torch

    grid, shallow, deep = seen.grid, seen.shallow, seen.received
    assert grid is not None
    assert shallow is not None
    assert deep is not None
    anchors = round(METHOD.selections["hiprune"].setting(stage, "alpha") * count / CROSS)
    best = shallow.argsort(descending=True, stable=True)[:anchors]
    anchor = torch.zeros_like(deep, dtype=torch.bool).index_fill(0, best, True)
    precedence = anchor.byte() + with_neighbours(anchor.view(grid)).flatten()
    order = deep.argsort(descending=True, stable=True)
    order = order[precedence[order].argsort(descending=True, stable=True)]
    return Chosen(order[:count].sort().values, deep)


def with_neighbours(marked: Tensor) -> Tensor:
    """(h, w) bool: the marked cells, and those left, right, above and below of one."""
    near = marked.clone()
    near[1:] |= marked[:-1]
    near[:-1] |= marked[1:]
    near[:, 1:] |= marked[:, :-1]
    near[:, :-1] |= marked[:, 1:]
    return near


METHOD: Method = Method(
    name="hiprune",
    title="HiPrune",
    paper="https://arxiv.org/abs/2508.00553",
    year=2025,
    summary="at the vision tower, best of an early layer's attention with neighbours, then of a late one's",
    scored="vision",
    published={Action.PRUNE: (), Action.REROUTE: AGAIN},
    solver=lambda request: select_first(request, METHOD),
    options={
        **FIRST_OPTIONS,
        "alpha": "share of the kept tokens that the early layer chooses, neighbours counted (default 0.1)",
    },
    shape=FIRST_SHAPE,
    selections={
        "hiprune": Selection(
            frozenset({Need.SHALLOW, Need.RECEIVED}),
            choose,
            lambda _sizes, _stage: 0,
            settings={"alpha": 0.1},
            bounds={"alpha": SHARE},
        )
    },
)
