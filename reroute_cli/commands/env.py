"""`reroute env`: what a measurement on this machine would depend on."""

from __future__ import annotations

from reroute_cli import options
from reroute_cli.console.output import Sink


def env(json: options.Json = False) -> None:
    """Show versions, processors, GPUs and settings that measurements depend on."""
    from reroute_cli.environment import describe_environment
    from routing.host import PROVEN

    found = describe_environment()
    found["proven_releases"] = {name: list(releases) for name, releases in PROVEN.items()}
    from reroute_cli.records.installation import Installation
    from reroute_cli.views.registry import document
    from reroute_cli.views.write import terminal

    record = Installation(**found)
    if json:
        Sink().json(record.as_dict())
    else:
        Sink().table(*terminal.page(document(record)))
