"""Service level objectives as they are typed: `ttft:200ms,itl:30ms` is the most that a request may take.

Knows text and seconds; not what is measured.
"""

from __future__ import annotations

import re

from reroute_cli.console.errors import UsageError
from reroute_cli.console.output import clean, shortened

OBJECTIVES = ("ttft", "itl", "tpot", "e2e")
_UNITS = {"ms": 1e-3, "s": 1.0}
_LIMIT = re.compile(r"(?P<number>[0-9]{1,12}(?:\.[0-9]{0,12})?|\.[0-9]{1,12}) ?(?P<unit>ms|s)")


def read_objectives(text: str | None) -> dict[str, float] | None:
    """Each objective in seconds, in the order typed; None where nothing was.

    Raises UsageError for an unknown name, one that is there twice, and what is no positive time in ms or s.
    """
    if text is None:
        return None
    found: dict[str, float] = {}
    for part in text.split(","):
        name, colon, limit = (word.strip() for word in part.partition(":"))
        shown = shortened(clean(part.strip(), one_line=True))
        if name not in OBJECTIVES:
            allowed = ", ".join(OBJECTIVES)
            raise UsageError(
                f"--slo '{shown}' names no objective: choose from {allowed}, as in ttft:200ms,itl:30ms"
            )
        if name in found:
            raise UsageError(f"--slo has {name} twice: give it once")
        amount = _LIMIT.fullmatch(limit) if colon else None
        if amount is None or not float(amount["number"]):
            raise UsageError(
                f"--slo '{shown}' is no time above 0 in ms or s: write {name}:200ms or {name}:2s"
            )
        found[name] = float(amount["number"]) * _UNITS[amount["unit"]]
    return found
