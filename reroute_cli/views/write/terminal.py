"""A document in a terminal, drawn by Rich; and images, where a terminal shows them (`reroute[terminal]`).

Every text from outside goes through `plain`: nothing in it is markup. Writes nowhere (output.py does).
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table as Grid
from rich.text import Text as Line

from reroute_cli.console.output import clean, draw
from reroute_cli.views.document import BLANK, TEXT, Block, Cell, Column, Document, Heading, Table, Text, Tone

_TONES = {
    Tone.HEADLINE: "bold",
    Tone.PASSED: "bold",
    Tone.FAILED: "bold red",
    Tone.WARNING: "yellow",
    Tone.NOTE: "dim",
}
_CELLS = {"bad": "bold red", "good": "green", "faint": "dim", "strong": "bold"}
_GRAPHICS = ("textual_image.renderable.tgp", "textual_image.renderable.sixel")


def page(document: Document) -> list[RenderableType]:
    """Sentences and tables, an empty line around every table and beside warnings."""
    drawn: list[RenderableType] = []
    before: Block | None = None
    for block in document.blocks:
        if TEXT not in block.on or not isinstance(block, Heading | Text | Table):
            continue
        if before is not None and _apart(before, block):
            drawn.append(plain(""))
        before = block
        if isinstance(block, Table):
            for number, (columns, rows) in enumerate(block.parts()):
                drawn += [plain("")] if number else []
                drawn.append(_grid(columns, rows, grouped=block.grouped and len(columns) > 1))
            drawn += [plain(block.left_out, "dim")] if block.left_out else []
        elif isinstance(block, Heading):
            drawn.append(plain(block.text, "bold"))
        else:
            line = plain(block.line, _TONES[block.tone])
            line.no_wrap, line.overflow = (True, "ignore") if block.whole else (None, None)
            drawn.append(line)
    return drawn


def text(document: Document) -> str:
    """The page as plain text, for a file."""
    return draw(tuple(page(document)), io.StringIO())


def plain(words: object, style: str = "") -> Line:
    """Untrusted text, on one line, as nothing but text."""
    return Line(clean(str(words), one_line=True), style=style)


def _apart(before: Block, block: Block) -> bool:
    """Whether an empty line is between two blocks."""
    if isinstance(before, Heading):
        return False
    if isinstance(before, Text) and isinstance(block, Text):
        if before.whole and block.whole:
            return False
        return before.tone is not block.tone and Tone.WARNING in (before.tone, block.tone)
    return True


def _grid(columns: Sequence[Column], rows: Sequence[Mapping[str, Cell]], *, grouped: bool) -> Grid:
    """A part of a table. grouped: the first column is a line of its own above the rows that share it."""
    headed = any(column.title for column in columns)
    grid = Grid(box=SIMPLE_HEAD if headed else None, header_style="bold", pad_edge=False, show_edge=False)
    grid.show_header = headed
    own = columns[1:] if grouped else columns
    for column in own:
        justify = "right" if column.right and not (grouped and column is own[0]) else "left"
        grid.add_column(plain(column.title), justify=justify, overflow="fold")  # type: ignore[arg-type]
    group = ""
    for one in rows:
        cells = [one.get(column.key, BLANK) for column in own]
        if grouped and (name := one.get(columns[0].key, BLANK)).line != group:
            group = name.line
            if cells[0].line:
                grid.add_row(plain(group, "bold"), *[""] * (len(own) - 1))
            else:  # the only row of its group
                cells[0] = name
        grid.add_row(*map(_cell, cells))
    return grid


def _cell(cell: Cell) -> Line:
    style = _CELLS.get(cell.tone, "")
    if cell.joint == "\n":
        return Line("\n").join(plain(text, style) for text in (cell.text, cell.note) if text)
    return plain(cell.line, style)


def shows_images() -> bool:
    """Whether stdout is a terminal that shows images and the package that talks to it is installed."""
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb" or find_spec("textual_image") is None:
        return False
    if not os.get_terminal_size(sys.stdout.fileno()).columns:  # nobody told it how large it is
        return False
    from textual_image.renderable import Image  # asks the terminal, once

    return Image.__module__ in _GRAPHICS


def show_image(png: bytes) -> None:
    """Draw an image file of our own making where the cursor is, by the terminal's own graphics."""
    from PIL import Image as Images
    from textual_image.renderable import Image

    with Images.open(io.BytesIO(png)) as image:
        Console(file=sys.stdout).print(Image(image, width="100%", height="auto"))
