"""The page itself: one HTML file that needs nothing else, and lets nothing else in.

Everything from outside is escaped by Jinja; what is marked as safe is our own: the stylesheet, the scripts
and what `island` has encoded. Scripts and styles are let in by their digests. Knows parts; no records.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reroute_cli.console.errors import Failure
from reroute_cli.console.output import clean
from reroute_cli.pages.gallery import Gallery, gallery_of
from reroute_cli.pages.islands import island
from reroute_cli.pages.palette import DARK, LIGHT
from reroute_cli.pages.pictures import Album, shelf_of
from reroute_cli.pages.pieces import Chart, Part

if TYPE_CHECKING:
    from jinja2 import Environment

LARGEST = 6_000_000  # bytes of a page
_FOR_ITEMS = 0.7  # of the room beside charts and tables goes to words where all of it is wanted
_SPARE = 4_000  # bytes for what counts of pictures say
_ASSETS = Path(__file__).resolve().parent / "assets"
_EMPTY_STYLE = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="  # Plotly makes one and fills it by rules

# Plotly carries the stylesheet of its maps, and adds it unless an element of this name is there: one is.
_GUARD = re.compile(r'document\.getElementById\("([0-9a-f]{64})"\)')


@dataclass(frozen=True)
class Page:
    """A finished page. left_out: items that did not fit."""

    html: str
    gallery: Gallery
    album: Album


def page_of(parts: Sequence[Part], most_items: int, folders: Sequence[Path]) -> Page:
    """The page of these parts, with as many items and pictures as fit (raises Failure where nothing does)."""
    items = [item for part in parts for item in part.items]
    gallery = gallery_of(items, most_items)
    while True:
        shelf = shelf_of(gallery.items, folders)
        bare = len(_render(parts, gallery, shelf.blank()).encode("utf-8"))
        if bare <= LARGEST - _SPARE:
            break
        if not gallery.items:
            raise Failure(f"a page of these files takes {bare:,} bytes, more than {LARGEST:,}: name fewer")
        empty = len(_render(parts, gallery_of(items, 0), Album()).encode("utf-8"))
        share = (_FOR_ITEMS * (LARGEST - _SPARE - empty)) / (bare - empty)
        gallery = gallery_of(items, max(0, min(len(gallery.items) - 1, int(share * len(gallery.items)))))
    album = shelf.fit(LARGEST - _SPARE - bare)
    return Page(_render(parts, gallery, album), gallery, album)


def _render(parts: Sequence[Part], gallery: Gallery, album: Album) -> str:
    from markupsafe import Markup

    charts = [chart for part in parts for chart in part.run.charts]
    style, script = _asset("page.css"), _asset("page.js")
    plotly = _plotly() if charts else ""
    scripts = [_digest(text) for text in (plotly, script) if text]
    template = _environment().get_template("page.html.j2")
    page: str = template.render(
        runs=[part.run for part in parts],
        gallery=gallery,
        album=album,
        style=Markup(style),  # noqa: S704  our own file
        script=Markup(script),  # noqa: S704  our own file
        plotly=Markup(plotly),  # noqa: S704  Plotly's own file
        guards=_GUARD.findall(plotly),
        figures=Markup(island(_figures(charts))),  # noqa: S704  nothing in it is markup
        policy=_policy(scripts, [_digest(style), _EMPTY_STYLE]),
    )
    return page


def _figures(charts: Sequence[Chart]) -> dict[str, Any]:
    """What the page's script draws, in the order of the charts, and the colours that the dark theme has."""
    dark = {LIGHT[name]: DARK[name] for name in LIGHT}
    return {"figures": [chart.figure for chart in charts], "dark": dark}


def _policy(scripts: Sequence[str], styles: Sequence[str]) -> str:
    said = {
        "default-src": "'none'",
        "script-src": " ".join(f"'{one}'" for one in scripts),
        "style-src": " ".join(f"'{one}'" for one in styles),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in said.items())


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
