"""Finds the keep ratios of one curve that meet a request, or says what can be met instead.

Knows spans and curves, not methods: a method brings its cut layers and its curve and gets keep ratios back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from routing.errors import BudgetError
from routing.methods.closed_forms import Curve, average
from routing.methods.method import Request

LEAST_KEEP = 0.001  # of the visual tokens, when their number is not known: fewer would be none at all
NUDGE = 1e-12  # relative; so that floor(V * keep) never loses a token to the last bit of a float
SLACK = 1e-9  # a ratio this close to what can be reached counts as reached
DIGITS = 4  # of the nearest reachable ratio in messages


def fit(request: Request, cuts: Sequence[int], curve: Curve) -> tuple[float, ...]:
    """Keep ratios of `curve` at exactly these cut layers; BudgetError when the ratio is out of reach."""
    spans = spans_of(cuts, request.layers)
    lowest, highest = _reach(request, spans, curve)
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
        if _reach(request, spans_of(moved, request.layers), curve)[0] - SLACK <= request.share:
            return moved
    return tuple(cuts)


def spans_of(cuts: Sequence[int], layers: int) -> tuple[int, ...]:
    """Layers before the first cut, then layers of each stage."""
    edges = (0, *cuts, layers)
    return tuple(end - start for start, end in pairwise(edges))


def _least(request: Request) -> float:
    return LEAST_KEEP if request.visual is None else 1 / request.visual


def _reach(request: Request, spans: Sequence[int], curve: Curve) -> tuple[float, float]:
    return average(curve.keeps(_least(request)), spans), average(curve.keeps(1.0), spans)


def _out_of_reach(
    request: Request, cuts: Sequence[int], curve: Curve, lowest: float, highest: float
) -> BudgetError:
    scale = 10**DIGITS
    if request.share < lowest:
        nearest = max(0.0, math.floor((1 - lowest) * scale) / scale)
        remedy = _reach_higher(request, cuts, curve)
    else:
        nearest = math.ceil((1 - highest) * scale) / scale
        remedy = "fastv reaches every smaller ratio"
    return BudgetError(
        f"{request.method} ({request.action}) cut at {_listed(cuts)} of {request.layers} layers cannot reach "
        f"a reduction ratio of {request.ratio:g}; the nearest it reaches is {nearest:g} ({remedy})",
        nearest=nearest,
    )


def _reach_higher(request: Request, cuts: Sequence[int], curve: Curve) -> str:
    moved = feasible_cuts(request, cuts, curve)
    if moved[0] < cuts[0]:
        return f"a first cut at layer {moved[0]} or earlier reaches {request.ratio:g}"
    if request.first_layer:
        return f"no cut before layer {request.first_layer} is possible here"
    return "beyond it not one token in each stage would be left"


def _listed(cuts: Sequence[int]) -> str:
    return ("layer " if len(cuts) == 1 else "layers ") + ", ".join(map(str, cuts))
