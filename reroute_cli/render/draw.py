"""The pieces of every card and table. Every text from outside goes through `plain`.

Knows nothing of what it draws; writes nowhere (output.py does).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from reroute_cli.console.output import clean

Part = RenderableType
Page = list[Part]
DIM, STRONG = "dim", "bold"


def plain(text: object, style: str = "") -> Text:
    """Untrusted text, on one line, as nothing but text."""
    return Text(clean(str(text), one_line=True), style=style)


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[int] = ()) -> Table:
    """Rows under headers; the columns in `right` hold numbers."""
    headed = any(headers)
    drawn = Table(box=SIMPLE_HEAD if headed else None, header_style=STRONG, pad_edge=False, show_edge=False)
    drawn.show_header = headed
    for index, header in enumerate(headers):
        drawn.add_column(header, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(cell if isinstance(cell, Text) else plain(cell) for cell in row))
    return drawn


def lines(*texts: object) -> Text:
    """Untrusted texts below one another, in one cell."""
    return Text("\n").join(plain(text) for text in texts)
