"""reroute as a library, `import reroute_cli as reroute`; `reroute_cli.app` is the entry of the command line.

Importing this package loads nothing: what it has is loaded when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reroute_cli.api.answers import BatchAnswers, ask, batch, load, plan, trace
    from reroute_cli.api.records import compare, read, view
    from reroute_cli.api.studies import evaluate, profile, sweep, tune
    from reroute_cli.console.errors import CliError, Failure, NotComparable, UsageError

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
_HOMES = ("api.answers", "api.records", "api.studies", "console.errors")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    homes = map(import_module, (f"reroute_cli.{home}" for home in _HOMES))
    return next(getattr(home, name) for home in homes if hasattr(home, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
