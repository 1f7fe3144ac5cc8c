"""Text in a figure: one font, the one that Pillow carries, so that it is the same on every machine.

It holds little more than ASCII: typographic signs are written with plain ones, letters lose their accents,
and what is left becomes '?', counted so that somebody can say so. Knows no figure.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import TYPE_CHECKING

from reroute_cli.console.output import clean

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

_PLAIN = str.maketrans(
    {"×": "x", "–": "-", "—": "-", "−": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "ß": "ss", "æ": "ae"}
    | {"ø": "o", "ł": "l", "Ł": "L", "Ø": "O", "Æ": "AE", "œ": "oe", "≥": ">=", "≤": "<=", "\u00a0": " "}
)
_LONGEST = 2000  # characters of any text that are looked at
MISSING = "?"


@cache
def font(size: int) -> FreeTypeFont:
    """Pillow's own font at a size in pixels."""
    from PIL import ImageFont

    found = ImageFont.load_default(size)
    assert isinstance(found, ImageFont.FreeTypeFont), "Pillow without FreeType has no font that scales"
    return found


def drawable(text: str) -> tuple[str, int]:
    """Text on one line that the font can draw, and how many characters had to be replaced."""
    plain = clean(text[:_LONGEST], one_line=True).translate(_PLAIN)
    kept = [char for char in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(char)]
    shown = [char if _has(char) else MISSING for char in kept]
    return "".join(shown), sum(one != other for one, other in zip(shown, kept, strict=True))


def length(text: str, size: int) -> int:
    """Pixels that a drawable text is wide."""
    return int(font(size).getlength(text) + 0.5)


def cut(text: str, size: int, width: int) -> str:
    """As much of a drawable text as fits, with three dots where something is left out."""
    if length(text, size) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if length(text[:middle].rstrip() + "...", size) <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "..."


def wrapped(text: str, size: int, width: int, most: int) -> list[str]:
    """A drawable text on at most so many lines."""
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < most:
        if len(lines) == most - 1:
            lines.append(cut(" ".join(words), size, width))
            break
        taken = 1
        while taken < len(words) and length(" ".join(words[: taken + 1]), size) <= width:
            taken += 1
        lines.append(cut(" ".join(words[:taken]), size, width))
        words = words[taken:]
    return lines


@cache
def _has(char: str) -> bool:
    """Whether the font draws this character and not its sign for a missing one."""
    if char.isascii():
        return char.isprintable()
    face = font(16)
    return face.getmask(char).getbbox() is not None and bytes(face.getmask(char)) != bytes(
        face.getmask("\uffff")
    )
