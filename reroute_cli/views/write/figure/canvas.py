"""A page to draw on: text, images, boxes and rules at whole pixels, in one font. Knows no traces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reroute_cli.views.write.figure import palette
from reroute_cli.views.write.figure.lettering import cut, drawable, font, length, wrapped
from reroute_cli.views.write.figure.palette import Colour

if TYPE_CHECKING:
    from PIL import Image

    from reroute_cli.views.write.figure.maps import Pixels

Place = tuple[int, int]
_DASH, _STEP = 7, 13  # pixels of a dash, and from one to the next
LEADING = 1.32  # from one line to the next, in font sizes


class FigureCanvas:
    """A white page of pixels. replaced: characters so far that the font lacks."""

    def __init__(self, width: int, height: int) -> None:
        from PIL import Image, ImageDraw

        self.page = Image.new("RGB", (width, height), palette.PAPER)
        self._draw = ImageDraw.Draw(self.page)
        self.replaced = 0

    def text(
        self,
        at: Place,
        words: str,
        size: int,
        colour: Colour = palette.INK,
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
        self, at: Place, words: str, size: int, width: int, most: int, colour: Colour = palette.INK
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
        self._draw.rectangle((x - 1, y - 1, x + image.width, y + image.height), outline=palette.RULE)

    def frame(
        self, box: tuple[int, int, int, int], colour: Colour, *, thick: int = 3, dashed: bool = False
    ) -> None:
        """A rectangle's outline in a white casing, which shows on any image; dashes leave the gaps be."""
        x1, y1, x2, y2 = box
        if not dashed:
            self._draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=palette.PAPER, width=thick + 2)
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
            self.fill((left - 1, top - 1, right, bottom), palette.PAPER)
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
