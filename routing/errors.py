"""The exceptions of the routing engine.

RoutingError
├── ScheduleError (also ValueError)      a schedule contradicts itself or does not fit the number of layers
├── BudgetError (also ValueError)        a ratio the method cannot reach; .nearest says which it can
├── UnsupportedModelError                a model family the engine cannot route; the message names what works
└── UnsupportedInputError                a supported model, called in a way that cannot be routed

Knows nothing of models, tensors or files.
"""

from __future__ import annotations


class RoutingError(Exception):
    """Base of everything the engine raises on purpose."""


class ScheduleError(RoutingError, ValueError):
    """A schedule that contradicts itself, or does not fit the model it is asked to describe."""


class BudgetError(RoutingError, ValueError):
    """A reduction ratio that this method cannot reach with these layers.

    `nearest` is the reachable reduction ratio closest to the one asked for, or None if there is none.
    """

    def __init__(self, message: str, *, nearest: float | None = None) -> None:
        super().__init__(message)
        self.nearest = nearest


class UnsupportedModelError(RoutingError):
    """A model whose decoder cannot be routed; the message says why and what works instead."""


class UnsupportedInputError(RoutingError):
    """A cache, mask or calling convention under which a prefill cannot be routed correctly."""
