"""Finds the keep ratios of one curve that meet a request, or says what can be met instead.

Knows spans and curves, not methods: a method brings its cut layers and its curve and gets keep ratios back.
Spans are layer counts: spans[0] dense layers, then the layers of each stage. `share` is the wanted average
fraction of visual tokens per layer, 1 - reduction ratio.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from routing.errors import BudgetError, ScheduleError
from routing.methods.method import Method, Request, Shape
from routing.schedule import Action, Pool, Schedule, Stage, VisionStage

BISECTIONS = 200  # halvings of [0, 1]; a float64 interval is exhausted long before
LEAST_KEEP = 0.001  # of the visual tokens, when their number is not known: fewer would be none at all
LAST_QUERY = "last_query"  # the ranking that most methods begin with
SCORED_BY = ("own", "previous")
AGAIN = (3, 7, 15, 23)  # of 32: where a rerouting run decides again, as under FastV
FIRST_SHAPE = Shape("behind a choice before the decoder", rho=1.0)
FIRST_OPTIONS = {
    "cuts": "decoder layers at which a rerouting run decides again, in place of the default ones",
    "pool": "all (default) or anchors: what rerouting may choose from after the selection",
}
TOWER_OPTIONS = {
    **FIRST_OPTIONS,
    "vision_scorer": "cls (default) or column_mean, for vision towers without a CLS token",
}
NUDGE = 1e-12  # relative; so that floor(V * keep) never loses a token to the last bit of a float
SLACK = 1e-9  # a ratio this close to what can be reached counts as reached
DIGITS = 4  # of the nearest reachable ratio in messages


class Curve(Protocol):
    """Keep ratios as a function of one number in (0, 1]; at 1 the curve is as high as it goes."""

    def keeps(self, x: float) -> tuple[float, ...]:
        """The keep ratio of each stage; never falling as x grows."""
        ...

    def invert(self, share: float, spans: Sequence[int]) -> float:
        """The x at which the average over all layers is `share`; meaningful only where one exists."""
        ...


@dataclass(frozen=True)
class Weighted:
    """keep_j = x * weights_j, largest weight 1: single shot, uniform, pyramid and two-stage schedules."""

    weights: tuple[float, ...]

    def keeps(self, x: float) -> tuple[float, ...]:
        """x times each weight."""
        return tuple(x * weight for weight in self.weights)

    def invert(self, share: float, spans: Sequence[int]) -> float:
        """(L * share - s_0) / sum_j s_j w_j."""
        weighted = sum(span * weight for span, weight in zip(spans[1:], self.weights, strict=True))
        return (sum(spans) * share - spans[0]) / weighted


@dataclass(frozen=True)
class Geometric:
    """keep_j = x^j for j = 1..stages: PyramidDrop's cascade."""

    stages: int

    def keeps(self, x: float) -> tuple[float, ...]:
        """x, x^2, x^3, ..."""
        return tuple(x**power for power in range(1, self.stages + 1))

    def invert(self, share: float, spans: Sequence[int]) -> float:
        """Bisection on sum_j s_j x^j = L * share, which rises with x."""
        low, high = 0.0, 1.0
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if average(self.keeps(middle), spans) < share else (low, middle)
        return (low + high) / 2


def average(keeps: Sequence[float], spans: Sequence[int]) -> float:
    """Average fraction of the visual tokens processed per layer."""
    return sum(span * keep for span, keep in zip(spans, (1.0, *keeps), strict=True)) / sum(spans)


def fit(request: Request, cuts: Sequence[int], curve: Curve) -> tuple[float, ...]:
    """Keep ratios of `curve` at exactly these cut layers; BudgetError when the ratio is out of reach."""
    spans = spans_of(cuts, request.layers)
    lowest, highest = average(curve.keeps(_least(request)), spans), average(curve.keeps(1.0), spans)
    if not lowest - SLACK <= request.share <= highest + SLACK:
        raise _out_of_reach(request, cuts, curve, lowest, highest)
    x = min(1.0, max(_least(request), curve.invert(request.share, spans)))
    return tuple(min(1.0, keep * (1 + NUDGE)) for keep in curve.keeps(x))


def feasible_cuts(request: Request, cuts: Sequence[int], curve: Curve) -> tuple[int, ...]:
    """These default cut layers, the first one moved up front just as far as the ratio needs.

    Layers before the first cut are dense, so they alone bound the ratio. Where no first cut helps, the
    layers come back unchanged and `fit` explains.
    """
    for first in range(cuts[0], request.first_layer - 1, -1):
        moved = (first, *cuts[1:])
        lowest = average(curve.keeps(_least(request)), spans_of(moved, request.layers))
        if lowest - SLACK <= request.share:
            return moved
    return tuple(cuts)


def spans_of(cuts: Sequence[int], layers: int) -> tuple[int, ...]:
    """Layers before the first cut, then layers of each stage."""
    edges = (0, *cuts, layers)
    return tuple(end - start for start, end in pairwise(edges))


def _least(request: Request) -> float:
    return LEAST_KEEP if request.visual is None else 1 / request.visual


def _out_of_reach(
    request: Request, cuts: Sequence[int], curve: Curve, lowest: float, highest: float
) -> BudgetError:
    """The error that says the nearest ratio, and what reaches the one that was asked for."""
    scale = 10**DIGITS
    if request.share > highest:
        nearest = math.ceil((1 - highest) * scale) / scale
        remedy = "fastv reaches every smaller ratio"
    else:
        nearest = max(0.0, math.floor((1 - lowest) * scale) / scale)
        moved = feasible_cuts(request, cuts, curve)
        if moved[0] < cuts[0]:
            remedy = f"a first cut at layer {moved[0]} or earlier reaches {request.ratio:g}"
        elif request.first_layer:
            remedy = f"no cut before layer {request.first_layer} is possible here"
        else:
            remedy = "beyond it not one token in each stage would be left"
    where = ("layer " if len(cuts) == 1 else "layers ") + ", ".join(map(str, cuts))
    return BudgetError(
        f"{request.method} ({request.action}) cut at {where} of {request.layers} layers cannot reach "
        f"a reduction ratio of {request.ratio:g}; the nearest it reaches is {nearest:g} ({remedy})",
        nearest=nearest,
    )


def scored_earlier(request: Request) -> bool:
    """Whether each stage is ranked by the layer before its cut (option `scored_by`)."""
    return request.choice("scored_by", SCORED_BY) == "previous"


def scored_stages(request: Request, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The stages ranked as option `scored_by` says: by the cut layer itself, or by the layer before it."""
    if not scored_earlier(request):
        return stages
    return tuple(Stage(stage.layer, stage.keep_ratio, stage.layer - 1) for stage in stages)


def select_first(request: Request, method: Method, rho: float = 1.0) -> Schedule:
    """The schedule of a method that chooses before the decoder, by a selection of its own name.

    Pruned, that is all, unless it is published with a later drop. Rerouted, what was not chosen waits with
    its plain features and is a candidate at later decoder layers, ranked by the attention of the last prompt
    token: the same keep ratio at each of them, so that the average is the published one (ours, no published
    code). rho: of what is chosen first, each later layer keeps this share. Where features go on entering up
    to decoder layer f, the choice takes effect there; with l the first later layer, the first count is
    (L T - f N) / (l - f + (L - l) rho).
    """
    first, selection = request.first_layer, method.selections[method.name]
    cuts, drops = request.cuts(above=first), len(method.published[Action.PRUNE])
    if request.action is Action.PRUNE and cuts and len(cuts) > drops:
        at = f"{drops or 'no'} decoder layer"
        raise ScheduleError(f"{method.name} prunes before the decoder and at {at}: got {list(cuts)}")
    if cuts is None:
        cuts = method.stages(request.action, request.layers, first + 1, request.last_layer)
    keeps = fit(request, (first, *cuts), Weighted((1.0, *([rho] * len(cuts)))))
    given = {name: request.options[name] for name in selection.settings if name in request.options}
    vision = VisionStage(
        keeps[0],
        layer=first,
        scorer=request.choice("vision_scorer", ("cls", "column_mean")),
        selection=method.name,
        settings=given,
    )
    selection.check(vision)
    stages = tuple(Stage(cut, keep) for cut, keep in zip(cuts, keeps[1:], strict=True))
    return Schedule(
        scored_stages(request, stages),
        action=request.action,
        vision=vision,
        pool=Pool(request.choice("pool", ("all", "anchors"))),
        rounding=request.rounding,
    )
