"""`reroute env`: what a measurement on this machine would depend on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reroute_cli import options
from reroute_cli.console.output import Sink


def env(json: options.Json = False) -> None:
    """Show versions, processors, GPUs and settings that measurements depend on."""
    from reroute_cli.environment import describe_environment
    from routing.host import PROVEN

    found = describe_environment()
    found["proven_releases"] = {name: list(releases) for name, releases in PROVEN.items()}
    if json:
        from reroute_cli.records.installation import Installation

        Sink().json(Installation(**found).as_dict())
        return
    from reroute_cli.render.draw import table

    Sink().table(table(("", ""), list(_lines(found))))


_BARE = ("packages", "settings")  # groups whose names speak for themselves


def _lines(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every value with a name, groups laid flat."""
    for name, value in found.items():
        parts = value if isinstance(value, list) else [value]
        for part in parts or [None]:
            if not isinstance(part, dict):
                yield name, "none" if part is None else str(part)
                continue
            for key, inner in part.items():
                label = key if name in _BARE else f"{name.removesuffix('s')} {key.replace('_', ' ')}"
                shown = ", ".join(inner) if isinstance(inner, list) else inner
                yield label, "none" if shown is None else str(shown)
