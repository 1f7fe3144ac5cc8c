"""DivPrune: the subset whose members differ most, without any attention (https://arxiv.org/abs/2503.02175).

Distances are 1 - cosine of the features that enter the decoder. Greedy max-min: first the token whose nearest
neighbour is farthest away, then again and again the one farthest from all chosen (released code, 799e2d9).
K = T, and the average is exact. Where the release may choose a token twice (rounding in half precision, equal
tokens), a chosen token is out here. It keeps the tokens of a prompt's images in one pool, as the release does
with the tiles of one image. The release renumbers positions in LLaVA; here they stay, as its Qwen port does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from routing.methods.diversity import above, cosine, farthest_first, stacked
from routing.methods.method import Method
from routing.methods.selection import Chosen, Seen, Selection, in_parts
from routing.methods.solver import AGAIN, FIRST_OPTIONS, FIRST_SHAPE, select_first
from routing.schedule import Action, VisionStage


@in_parts
def choose(seen: Sequence[Seen], counts: Sequence[int], _stage: VisionStage) -> list[Chosen]:
    """Of each image the tokens that are farthest from one another."""
    sizes = [len(one.features) for one in seen]
    apart = (1 - cosine(one.features, one.features) for one in seen)
    found = farthest_first(stacked(apart, sizes, seen[0].features.device, math.inf), sizes, counts)
    return [Chosen(order.sort().values, above(nearest, order)) for order, nearest in found]


METHOD: Method = Method(
    name="divprune",
    title="DivPrune",
    paper="https://arxiv.org/abs/2503.02175",
    year=2025,
    summary="before the decoder, the visual tokens that differ most from one another",
    scored="vision",
    published={Action.PRUNE: (), Action.REROUTE: AGAIN},
    solver=lambda request: select_first(request, METHOD),
    options=FIRST_OPTIONS,
    shape=FIRST_SHAPE,
    selections={
        "divprune": Selection(frozenset(), choose, lambda sizes, _stage: 2 * sizes.tokens**2 * sizes.width)
    },
)
