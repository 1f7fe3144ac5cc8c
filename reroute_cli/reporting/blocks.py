"""The blocks a page is made of: sentences and tables of plain strings.

They know no terminal and no Markdown.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Tone(StrEnum):
    """How much a sentence matters."""

    HEADLINE = "headline"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Say:
    """One sentence."""

    text: str
    tone: Tone = Tone.NOTE


@dataclass(frozen=True)
class Table:
    """Rows under headers; the columns in `right` hold numbers."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[int, ...] = ()


Block = Say | Table
