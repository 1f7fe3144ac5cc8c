"""The page itself: one HTML file that needs nothing else, and lets nothing else in.

Everything from outside is escaped by Jinja; what is marked as safe is our own: the stylesheet, the scripts
and what `embedded` has encoded. Scripts and styles are let in by their digests. A fragment, for notebooks, is
a few plain elements: no script, no style, no figure. Knows documents; no records.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from reroute_cli.console.errors import Failure
from reroute_cli.console.output import clean
from reroute_cli.views.document import (
    BLANK,
    HEADLINES,
    PAGE,
    Chart,
    Document,
    Heading,
    Table,
    Text,
    Tile,
    Tone,
)
from reroute_cli.views.write.charts import DARK, LIGHT
from reroute_cli.views.write.gallery import PageImages, ShownGallery, find_images, gallery_of

if TYPE_CHECKING:
    from jinja2 import Environment

T = TypeVar("T", Chart, Table, Tile)

MOST_ROWS = 300  # of a table
MOST_WARNINGS = 20
LARGEST = 6_000_000  # bytes of a page
_FOR_ITEMS = 0.7  # of the room beside charts and tables goes to words where all of it is wanted
_SPARE = 4_000  # bytes for what counts of images say
_ASSETS = Path(__file__).resolve().parent / "assets"
_EMPTY_STYLE = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="  # Plotly makes one and fills it by rules

_ESCAPED = str.maketrans(
    {"&": "\\u0026", "<": "\\u003c", ">": "\\u003e", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)

# Plotly carries the stylesheet of its maps, and adds it unless an element of this name is there: one is.
_GUARD = re.compile(r'document\.getElementById\("([0-9a-f]{64})"\)')


@dataclass(frozen=True)
class PageSection:
    """A document as a section of a page, under the name of what it was made of."""

    name: str
    document: Document

    def blocks(self, kind: type[T]) -> list[T]:
        """The blocks of one kind that are for pages."""
        return [block for block in self.document.blocks if isinstance(block, kind) and PAGE in block.on]

    def as_template(self) -> dict[str, Any]:
        """What the template says of it."""
        tables = [_limited(table) for table in self.blocks(Table)]
        warnings = self.document.texts(PAGE, Tone.WARNING)
        more = len(warnings) - MOST_WARNINGS
        return {
            "kind": self.document.kind,
            "name": self.name,
            "headline": " · ".join(self.document.texts(PAGE, *HEADLINES)),
            "warnings": [*warnings[:MOST_WARNINGS], *([f"and {more} more"] if more > 0 else [])],
            "notes": self.document.texts(PAGE, Tone.NOTE),
            "tiles": self.blocks(Tile),
            "charts": [(chart, _limited(chart.data)) for chart in self.blocks(Chart)],
            "tables": [table for table in tables if not table["folded"]],
            "folded": [table for table in tables if table["folded"]],
        }


def _limited(table: Table) -> dict[str, Any]:
    """A table's columns for pages with its cells in their order, of bounded length."""
    columns = table.shown(PAGE)
    rows = [[row.get(column.key, BLANK) for column in columns] for row in table.rows[:MOST_ROWS]]
    left_out = max(0, len(table.rows) - MOST_ROWS)
    caption, folded = table.caption, table.folded
    return {"caption": caption, "columns": columns, "rows": rows, "left_out": left_out, "folded": folded}


@dataclass(frozen=True)
class Page:
    """A finished page. left_out: items that did not fit."""

    html: str
    gallery: ShownGallery
    album: PageImages


def page_of(sections: Sequence[PageSection], most_items: int, folders: Sequence[Path]) -> Page:
    """The page of these sections, with as many items and images as fit (raises Failure if none do)."""
    items = [replace(item, source=section.name) for section in sections for item in section.document.items]
    gallery = gallery_of(items, most_items)
    while True:
        found = find_images(gallery.items, folders)
        bare = len(_render(sections, gallery, found.blank()).encode("utf-8"))
        if bare <= LARGEST - _SPARE:
            break
        if not gallery.items:
            raise Failure(f"a page of these files takes {bare:,} bytes, more than {LARGEST:,}: name fewer")
        empty = len(_render(sections, gallery_of(items, 0), PageImages()).encode("utf-8"))
        share = (_FOR_ITEMS * (LARGEST - _SPARE - empty)) / (bare - empty)
        gallery = gallery_of(items, max(0, min(len(gallery.items) - 1, int(share * len(gallery.items)))))
    album = found.fit(LARGEST - _SPARE - bare)
    return Page(_render(sections, gallery, album), gallery, album)


def _render(sections: Sequence[PageSection], gallery: ShownGallery, album: PageImages) -> str:
    from markupsafe import Markup

    figures = [chart.figure for section in sections for chart in section.blocks(Chart)]
    dark = {LIGHT[name]: DARK[name] for name in LIGHT}  # the colour that each has in the dark theme
    style, script = _asset("page.css"), _asset("page.js")
    plotly = _plotly() if figures else ""
    policy = {
        "default-src": "'none'",
        "script-src": " ".join(f"'{_digest(text)}'" for text in (plotly, script) if text),
        "style-src": f"'{_digest(style)}' '{_EMPTY_STYLE}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    template = _environment().get_template("page.html.j2")
    page: str = template.render(
        runs=[section.as_template() for section in sections],
        gallery=gallery,
        album=album,
        style=Markup(style),  # noqa: S704  our own file
        script=Markup(script),  # noqa: S704  our own file
        plotly=Markup(plotly),  # noqa: S704  Plotly's own file
        guards=_GUARD.findall(plotly),
        figures=Markup(embedded({"figures": figures, "dark": dark})),  # noqa: S704  nothing in it is markup
        policy="; ".join(f"{name} {value}" for name, value in policy.items()),
    )
    return page


def embedded(value: Any) -> str:
    """A value as JSON that stays data wherever in a page it stands (raises ValueError for NaN).

    For a <script type="application/json">: no character in it ends the element or a line of script.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace").decode("utf-8").translate(_ESCAPED)


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}"


@cache
def _asset(name: str) -> str:
    return _script_text((_ASSETS / name).read_text(encoding="utf-8"))


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return _script_text(str(get_plotlyjs()))


def _script_text(text: str) -> str:
    """Text as a browser reads it inside its element, so that its digest is the browser's."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    lowered = text.lower()
    assert "</script" not in lowered and "</style" not in lowered and "<!--" not in text  # noqa: PT018
    return text


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(
        loader=FileSystemLoader(_ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["bounded"] = _bounded
    return found


def _shown(value: Any) -> Any:
    """What a template writes: text from outside without control and direction characters."""
    return clean(value) if type(value) is str else value


def _bounded(text: str, most: int) -> str:
    """At most so many characters; what is cut off is counted."""
    cleaned = clean(text).strip()
    if len(cleaned) <= most:
        return cleaned
    return f"{cleaned[:most]}… ({len(cleaned):,} characters)"


def fragment(document: Document) -> Iterator[str]:
    """The blocks of a document that are for pages, but for what takes a click or a script."""
    for block in (block for block in document.blocks if PAGE in block.on):
        if isinstance(block, Table) and not block.folded:
            yield _plain_table(block)
        elif isinstance(block, Heading):
            yield f"<h4>{_safe(block.text)}</h4>"
        elif isinstance(block, Text):
            text = _safe(block.line)
            yield f"<p><b>{text}</b></p>" if block.tone in HEADLINES else f"<p>{text}</p>"
        elif isinstance(block, Tile):
            note = f" <small>{_safe(block.note)}</small>" if block.note else ""
            yield f"<p>{_safe(block.label)}: <b>{_safe(block.value)}</b>{note}</p>"


def _plain_table(table: Table) -> str:
    columns = table.shown(PAGE)
    lines = ["".join(f"<th>{_safe(column.label)}</th>" for column in columns)]
    for row in table.rows[:MOST_ROWS]:
        cells = (row.get(column.key, BLANK) for column in columns)
        lines.append("".join(f"<td>{_safe(cell.line)}</td>" for cell in cells))
    rows = "".join(f"<tr>{line}</tr>" for line in lines)
    left = len(table.rows) - MOST_ROWS
    more = f"<p>{left} more rows are left out.</p>" if left > 0 else ""
    return f"<table><caption>{_safe(table.caption)}</caption>{rows}</table>{more}"


def _safe(text: str) -> str:
    """Text that is nothing but text between tags; $ too, which notebooks read as formulas."""
    return escape(clean(text)).replace("$", "&#36;")
