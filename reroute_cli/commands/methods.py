"""`reroute methods`: the reduction methods there are."""

from __future__ import annotations

from reroute_cli.console.options import ListOutput


def methods(output: ListOutput) -> None:
    """List the reduction methods: what they can do and where they were published."""
    from reroute_cli.records.lists import MethodList, MethodPart
    from reroute_cli.views.emit import emit
    from routing.methods import METHODS

    rows = [
        MethodPart(
            name=method.name,
            title=method.title,
            actions=[str(action) for action in method.actions],
            scored=method.scored,
            year=method.year or None,
            paper=method.paper or None,
            summary=method.summary,
            options=dict(method.options),
        )
        for method in METHODS.values()
    ]
    emit(MethodList(methods=rows), output)
