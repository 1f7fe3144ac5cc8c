"""reroute as a library, `import reroute_cli as reroute`; `reroute_cli.app` is the entry of the command line.

Importing this package loads nothing: what it has is loaded when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reroute_cli.api import (
        BatchAnswers,
        CliError,
        Failure,
        NotComparable,
        UsageError,
        ask,
        batch,
        compare,
        evaluate,
        load,
        plan,
        profile,
        read,
        sweep,
        trace,
        tune,
        view,
    )

__all__ = [
    "BatchAnswers",
    "CliError",
    "Failure",
    "NotComparable",
    "UsageError",
    "ask",
    "batch",
    "compare",
    "evaluate",
    "load",
    "plan",
    "profile",
    "read",
    "sweep",
    "trace",
    "tune",
    "view",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("reroute_cli.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
