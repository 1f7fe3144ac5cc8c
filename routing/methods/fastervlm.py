"""FasterVLM: the tokens that the CLS token of the vision tower attends to most.

Paper: https://arxiv.org/abs/2412.01818 in its first version, whose later one is VisPruner; released code
f5d5f12. K = T, and the average is exact. The release renumbers positions; here they stay.
"""

from __future__ import annotations

from routing.methods.method import Method
from routing.methods.selection import Chosen, Need, Seen, Selection, each
from routing.methods.solver import AGAIN, FIRST_SHAPE, TOWER_OPTIONS, select_first
from routing.schedule import Action, VisionStage


@each
def choose(seen: Seen, count: int, _stage: VisionStage) -> Chosen:
    """The `count` tokens of most attention."""
    attention = seen.attention
    assert attention is not None
    return Chosen(attention.argsort(descending=True, stable=True)[:count].sort().values, attention)


METHOD: Method = Method(
    name="fastervlm",
    title="FasterVLM",
    paper="https://arxiv.org/abs/2412.01818",
    year=2024,
    summary="at the vision tower, the tokens that its CLS token attends to most",
    scored="vision",
    published={Action.PRUNE: (), Action.REROUTE: AGAIN},
    solver=lambda request: select_first(request, METHOD),
    options=TOWER_OPTIONS,
    shape=FIRST_SHAPE,
    selections={"fastervlm": Selection(frozenset({Need.ATTENTION}), choose, lambda _sizes, _stage: 0)},
)
