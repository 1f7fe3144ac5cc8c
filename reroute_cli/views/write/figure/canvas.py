"""A page to draw on: text, images, boxes and rules at whole pixels, in one font and few colours.

The font is the one that Pillow carries, the same on every machine. It holds little more than ASCII:
typographic signs are written with plain ones, letters lose their accents, and what is left becomes '?',
counted so that somebody can say so. Colours are Okabe and Ito's for what has a name, cividis for scores; both
are told apart with any colour vision: https://jfly.uni-koeln.de/color/ and Nuñez, Anderton and Renslow,
"Optimizing colormaps with consideration for color vision deficiency", 2018. Knows no traces.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reroute_cli.console.output import clean

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFont import FreeTypeFont

    from reroute_cli.views.write.figure.maps import Pixels

Place = tuple[int, int]
_DASH, _STEP = 7, 13  # pixels of a dash, and from one to the next
LEADING = 1.32  # from one line to the next, in font sizes
Colour = tuple[int, int, int]
PAPER: Colour = (255, 255, 255)
INK: Colour = (26, 28, 32)
SOFT: Colour = (98, 103, 112)
RULE: Colour = (214, 217, 222)
BLANK: Colour = (232, 234, 237)
REENTERED_RING: Colour = (240, 228, 66)
TARGET: Colour = (0, 114, 178)
ANSWER: Colour = (213, 94, 0)
ARMS: dict[str | None, Colour] = {None: (110, 115, 124), "prune": (213, 94, 0), "reroute": (0, 158, 115)}
_CIVIDIS = (
    (0, 34, 78),
    (18, 53, 112),
    (59, 73, 108),
    (87, 93, 109),
    (112, 113, 115),
    (138, 134, 120),
    (165, 156, 116),
    (195, 179, 105),
    (225, 204, 85),
    (254, 232, 56),
)
_PLAIN = str.maketrans(
    {"×": "x", "–": "-", "—": "-", "−": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "ß": "ss", "æ": "ae"}
    | {"ø": "o", "ł": "l", "Ł": "L", "Ø": "O", "Æ": "AE", "œ": "oe", "≥": ">=", "≤": "<=", "\u00a0": " "}
)
_LONGEST = 2000  # characters of any text that are looked at
MISSING = "?"


class FigureCanvas:
    """A white page of pixels. replaced: characters so far that the font lacks."""

    def __init__(self, width: int, height: int) -> None:
        from PIL import Image, ImageDraw

        self.page = Image.new("RGB", (width, height), PAPER)
        self._draw = ImageDraw.Draw(self.page)
        self.replaced = 0

    def text(
        self,
        at: Place,
        words: str,
        size: int,
        colour: Colour = INK,
        *,
        width: int | None = None,
        right: bool = False,
    ) -> int:
        """One line with its top left (or, with `right`, its top right) corner here; the pixels it is wide."""
        shown, replaced = drawable(words)
        self.replaced += replaced
        shown = shown if width is None else cut(shown, size, width)
        wide = length(shown, size)
        x, y = at
        baseline = y + round(size * 0.95)
        self._draw.text(
            (x - wide if right else x, baseline), shown, fill=colour, font=font(size), anchor="ls"
        )
        return wide

    def paragraph(
        self, at: Place, words: str, size: int, width: int, most: int, colour: Colour = INK
    ) -> None:
        """At most so many lines, broken at words."""
        shown, replaced = drawable(words)
        self.replaced += replaced
        for number, line in enumerate(wrapped(shown, size, width, most)):
            self.text((at[0], at[1] + round(number * size * LEADING)), line, size, colour)

    def picture(self, at: Place, pixels: Pixels) -> None:
        """An array of RGB pixels with a hairline around it."""
        from PIL import Image

        image: Image.Image = Image.fromarray(pixels)
        self.page.paste(image, at)
        x, y = at
        self._draw.rectangle((x - 1, y - 1, x + image.width, y + image.height), outline=RULE)

    def frame(
        self, box: tuple[int, int, int, int], colour: Colour, *, thick: int = 3, dashed: bool = False
    ) -> None:
        """A rectangle's outline in a white casing, which shows on any image; dashes leave the gaps be."""
        x1, y1, x2, y2 = box
        if not dashed:
            self._draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=PAPER, width=thick + 2)
            self._draw.rectangle((x1, y1, x2, y2), outline=colour, width=thick)
            return
        across = [
            (x, y, min(x + _DASH, x2 + 1), y + thick)
            for y in (y1, y2 - thick + 1)
            for x in range(x1, x2, _STEP)
        ]
        down = [
            (x, y, x + thick, min(y + _DASH, y2 + 1))
            for x in (x1, x2 - thick + 1)
            for y in range(y1, y2, _STEP)
        ]
        for left, top, right, bottom in across + down:
            self.fill((left - 1, top - 1, right, bottom), PAPER)
        for left, top, right, bottom in across + down:
            self.fill((left, top, right - 1, bottom - 1), colour)

    def fill(self, box: tuple[int, int, int, int], colour: Colour) -> None:
        """A filled rectangle, its last row and column included."""
        self._draw.rectangle(box, fill=colour)

    def png(self) -> bytes:
        """The page as a file: the same page gives the same bytes."""
        import io

        file = io.BytesIO()
        self.page.save(file, format="PNG", optimize=True)
        return file.getvalue()


def heat(share: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Colours (..., 3) of shares from 0 to 1."""
    steps = np.linspace(0.0, 1.0, len(_CIVIDIS))
    bands = [np.interp(share, steps, [colour[band] for colour in _CIVIDIS]) for band in range(3)]
    return np.stack(bands, axis=-1).round().astype(np.uint8)


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
