"""`reroute env`: what a measurement on this machine would depend on."""

from __future__ import annotations

from reroute_cli.console.options import ListOutput


def env(output: ListOutput) -> None:
    """Show versions, processors, GPUs and settings that measurements depend on."""
    from reroute_cli.measure.environment import describe_environment
    from reroute_cli.records.lists import Installation
    from reroute_cli.views.emit import emit
    from routing.host import PROVEN

    proven = {name: list(releases) for name, releases in PROVEN.items()}
    emit(Installation(**describe_environment(), proven_releases=proven), output)
