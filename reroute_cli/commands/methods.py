"""`reroute methods`: the reduction methods there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reroute_cli import options
from reroute_cli.console.output import Sink

if TYPE_CHECKING:
    from reroute_cli.records.lists import MethodPart
    from routing.methods.method import Method


def methods(json: options.Json = False) -> None:
    """List the reduction methods: what they can do and where they were published."""
    from reroute_cli.records.lists import MethodList
    from routing.methods import METHODS

    found = MethodList(methods=[_row(method) for method in METHODS.values()])
    if json:
        Sink().json(found.as_dict())
        return
    from reroute_cli.views.registry import document
    from reroute_cli.views.write import terminal

    Sink().table(*terminal.page(document(found)))


def _row(method: Method) -> MethodPart:
    from reroute_cli.records.lists import MethodPart

    return MethodPart(
        name=method.name,
        title=method.title,
        actions=[str(action) for action in method.actions],
        scored=method.scored,
        year=method.year or None,
        paper=method.paper or None,
        summary=method.summary,
        options=dict(method.options),
    )
