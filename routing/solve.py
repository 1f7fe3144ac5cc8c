"""From a budget to a schedule: `solve` asks a method for the schedule that meets a reduction ratio.

Knows the registry of methods and nothing of models; the arithmetic is in methods/solver.py.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from routing.errors import BudgetError, ScheduleError
from routing.families.encoders import ENCODERS
from routing.methods import METHODS, Request
from routing.schedule import Action, Rounding, Schedule, as_member


@dataclass(frozen=True)
class Target:
    """What a schedule is made for: one model, one prompt.

    first_layer, last_layer: the first and the last decoder layer that may decide; None: the last there is.
    visual: the prompt's visual tokens.
    """

    layers: int
    first_layer: int
    visual: int
    vision_tower: str
    last_layer: int | None = None

    @property
    def last(self) -> int:
        """The last decoder layer that may decide."""
        return self.layers - 1 if self.last_layer is None else self.last_layer

    @property
    def vision_scorer(self) -> str:
        """What a stage at the vision tower ranks patches by: a CLS token where the tower has one."""
        encoder = ENCODERS.get(self.vision_tower)
        return "cls" if encoder is not None and encoder.class_tokens else "column_mean"


def solve(
    method: str,
    *,
    action: Action | str = Action.PRUNE,
    ratio: float,
    layers: int,
    first_layer: int | None = None,
    last_layer: int | None = None,
    visual: int | None = None,
    rounding: Rounding | str = Rounding.FLOOR,
    **method_options: Any,
) -> Schedule:
    """The schedule of `method` whose average is (1 - ratio) of the visual tokens per decoder layer.

    method: a key of routing.METHODS. ratio: reduction ratio in [0, 1). layers: decoder layers.
    first_layer: first layer that may decide (deepstack models). last_layer: last layer that may decide
    (models whose later layers use keys of earlier ones); None: the last there is. visual: visual tokens of
    the sample, if known; only sharpens what counts as reachable. rounding: how the schedule turns keep
    ratios into counts.

    Default cut layers stand at the published fractions of the depth; where they leave too many dense
    layers for the ratio, the first cut moves up front just as far as needed, and the schedule's stages
    show it. Explicit cut layers (`cuts=(...)`) are never moved.

    Raises BudgetError (with `.nearest`) when the ratio is out of reach, ScheduleError for anything else
    amiss.
    """
    if method not in METHODS:
        raise ScheduleError(f"no method {method!r}; there are {', '.join(METHODS)}")
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 <= ratio < 1:
        raise BudgetError(f"a reduction ratio is at least 0 and below 1, got {ratio!r}")
    request = Request(
        method=method,
        action=as_member("action", Action, action),
        ratio=float(ratio),
        layers=_whole("layers", layers, 1),
        first_layer=_whole("first_layer", first_layer or 0, 0),
        last_layer=None if last_layer is None else _whole("last_layer", last_layer, 0),
        visual=None if visual is None else _whole("visual", visual, 1),
        rounding=as_member("rounding", Rounding, rounding),
        options=method_options,
    )
    if request.first_layer >= request.layers:
        raise ScheduleError(f"first_layer {first_layer} leaves nothing to reduce in {layers} layers")
    return METHODS[method].solve(request)


def ratio_for_budget(budget_tokens: float, visual: int) -> float:
    """The reduction ratio at which `visual` tokens average `budget_tokens` per decoder layer.

    Raises BudgetError when the budget is not above 0 and at most `visual`; what a method reaches, `solve`
    decides.
    """
    _whole("visual", visual, 1)
    if isinstance(budget_tokens, bool) or not isinstance(budget_tokens, int | float):
        raise BudgetError(f"a budget is a number of tokens, got {budget_tokens!r}")
    if not 0 < budget_tokens <= sys.float_info.max:  # false for NaN, too
        raise BudgetError(f"a budget must be above 0 visual tokens per layer, got {budget_tokens!r}")
    if budget_tokens > visual:
        raise BudgetError(
            f"a budget of {budget_tokens:g} visual tokens per layer exceeds the {visual} there are",
            nearest=0.0,
        )
    return 1 - budget_tokens / visual


def _whole(name: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ScheduleError(f"{name} must be a whole number from {least} up, got {value!r}")
    return value
