"""reroute's routing engine: prune or reroute visual tokens in stock Hugging Face vision-language models.

schedule = routing.solve("pdrop", action="reroute", ratio=0.889, layers=32)
with routing.route(model, schedule) as trace:
    output = model.generate(**inputs, max_new_tokens=32)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from routing import cost
from routing.errors import (
    BudgetError,
    RoutingError,
    ScheduleError,
    UnsupportedInputError,
    UnsupportedModelError,
)
from routing.families import FAMILIES, REFUSED, ModelInfo, describe_config
from routing.methods import METHODS, Method
from routing.schedule import Action, Pool, Rounding, Schedule, Stage, VisionStage
from routing.solve import ratio_for_budget, solve

if TYPE_CHECKING:
    from routing.checks.check import check
    from routing.checks.proven import route
    from routing.trace import RouteTrace

_NEEDS_TORCH = {
    "check": "routing.checks.check",
    "route": "routing.checks.proven",
    "RouteTrace": "routing.trace",
}

__all__ = [
    "FAMILIES",
    "METHODS",
    "REFUSED",
    "Action",
    "BudgetError",
    "Method",
    "ModelInfo",
    "Pool",
    "Rounding",
    "RouteTrace",
    "RoutingError",
    "Schedule",
    "ScheduleError",
    "Stage",
    "UnsupportedInputError",
    "UnsupportedModelError",
    "VisionStage",
    "check",
    "cost",
    "describe",
    "ratio_for_budget",
    "route",
    "solve",
]


def describe(model: Any) -> ModelInfo:
    """Family, depth, first routable layer and visual token ids of a loaded model.

    Raises UnsupportedModelError naming what was given and what works.
    """
    return describe_config(getattr(model, "config", model))


def __getattr__(name: str) -> Any:
    """Import the parts that need torch when they are first asked for."""
    if name in _NEEDS_TORCH:
        return getattr(import_module(_NEEDS_TORCH[name]), name)
    raise AttributeError(f"module 'routing' has no attribute {name!r}")
