"""Hooks beside compiled models: what routing does stays outside of the graphs of torch.compile.

Stages have lengths of their own and state that lives for one call: traced, each would be a graph of its own
with guards on that state. Knows no model.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch

Hook = TypeVar("Hook", bound=Callable[..., Any])


def outside_of_graphs(hook: Hook) -> Hook:
    """The same hook, which runs eagerly between the graphs of whatever is compiled around it.

    Dynamo, more than a second of imports, is asked only where somebody has loaded it to compile something.
    """
    eager: list[Callable[..., Any]] = []

    @wraps(hook)
    def call(*args: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return hook(*args)
        if not eager:
            eager.append(torch.compiler.disable(hook))  # type: ignore[no-untyped-call]
        return eager[0](*args)

    return cast("Hook", call)
