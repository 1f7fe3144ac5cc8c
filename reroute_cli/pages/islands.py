"""Data inside a page, so that nothing in it is ever markup or code.

`island` is JSON for a <script type="application/json">: no character in it ends the element or a line of
script. `plot_text` is text for Plotly, which would read tags in it. Knows text; not what it says.
"""

from __future__ import annotations

import json
from typing import Any

from reroute_cli.console.output import clean

_ESCAPED = {"&": "\\u0026", "<": "\\u003c", ">": "\\u003e", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_TABLE = str.maketrans(_ESCAPED)
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;", "%": "&#37;"})
_PLOT_NAME = 60


def island(value: Any) -> str:
    """A value as JSON that stays data wherever in a page it stands (raises ValueError for NaN)."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace").decode("utf-8").translate(_TABLE)


def plot_text(text: str, most: int = _PLOT_NAME) -> str:
    """Untrusted text for a figure: one line, bounded, no tag, no template, no formula."""
    line = clean(text, one_line=True)
    line = line if len(line) <= most else line[: most - 1].rstrip() + "…"
    return line.translate(_ENTITIES)
