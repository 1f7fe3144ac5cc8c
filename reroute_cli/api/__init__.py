"""reroute as a library: a function for each command that answers, measures, searches, judges or shows.

    import reroute_cli as reroute

    model = reroute.load("pocket")
    answer = reroute.ask(model, "samples/desk.png", "where is the cup?", method="pdrop", ratio=0.6)

Records in, records out: the same as the commands write. Nothing is printed; whatever goes wrong is one of the
CliError kinds with one sentence, a bug is what it is. Keywords are the options of the command line under the
same names, see `console.keywords`; an unknown one is a TypeError. `progress`: True draws the command line's
bar on stderr where that is a terminal; any object with `expect(steps)`, `tell(doing)` and `done()` is told.

Images are paths or PIL images. Ratios are reduction ratios, 1 - average visual tokens per decoder layer /
original; budgets are average visual tokens per decoder layer; layers count from 0; boxes are pixels.
"""

from __future__ import annotations

from typing import Any

from reroute_cli.records import base


def _html_of(record: Any) -> str:
    """What notebooks show of a record; the views are loaded when one does."""
    from reroute_cli.views.emit import html_fragment

    return html_fragment(record)


base.html_of = _html_of
