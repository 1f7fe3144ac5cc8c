"""The image and its token maps at the sizes of a figure, worked out once for all panels.

Knows records and pixels; no page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from reroute_cli.records.trace import TraceRecord
from reroute_cli.views.write.figure.maps import (
    NOBODY,
    Pixels,
    Tokens,
    draws_lines,
    scaled,
    score_map,
    state_map,
    token_map,
)
from routing.grids import DETAIL, OVERVIEW, Box, Grid

if TYPE_CHECKING:
    from PIL import Image

CELL, FINEST = 20, 6  # pixels of a token in a panel: where there is room for it, and at least
SMALLEST, LARGEST = 300, 640  # pixels of a panel's longer side
NARROWEST, LOWEST = 250, 60  # of its width and its height
STRIP, APART = 10, 4  # width of the strip of row ends, and its distance from the panel
STRIP_PAPER = np.array([[(186, 190, 196)]], dtype=np.uint8)  # (1, 1, 3)


@dataclass(frozen=True)
class TokenView:
    """One way to see the image at one size: its pixels and which token each belongs to."""

    pixels: Pixels
    tokens: Tokens
    scale: tuple[float, float]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        high, wide = self.tokens.shape
        return wide, high

    @cached_property
    def _lines(self) -> bool:
        return draws_lines(self.tokens)

    def states(self, states: str) -> Pixels:
        """The state of each token over the image."""
        return state_map(self.pixels, self.tokens, states, lines=self._lines)

    def scores(self, scores: Sequence[float | None]) -> Pixels:
        """The score of each token as a colour."""
        return score_map(self.tokens, scores)

    def box(self, box: Box) -> tuple[int, int, int, int]:
        """Where a box of the image lies."""
        x1, y1, x2, y2 = scaled(box, self.scale, self.size)
        return x1, y1, max(x2 - 1, x1), max(y2 - 1, y1)


@dataclass(frozen=True)
class TokenViews:
    """All views of one trace. full: of a panel; half: at half its size, of the same tokens; overview: of the
    tokens that saw the whole image beside tiles, at half a panel's size. ends: the strip of row ends.
    """

    full: TokenView
    half: TokenView
    overview: TokenView | None
    ends: TokenView | None

    @property
    def strip(self) -> int:
        """Pixels beside a panel that its strip takes."""
        return STRIP + APART if self.ends else 0


def views_of(record: TraceRecord, picture: Image.Image, room: int) -> TokenViews:
    """The views of a record over its image. room: for a panel, with all stages in one line."""
    grids = [
        Grid(part.view, tuple(part.rows), tuple(part.columns), part.first, part.row_ends)
        for part in record.grids
    ]
    detail = [grid for grid in grids if grid.view == DETAIL]
    overview = [grid for grid in grids if grid.view == OVERVIEW]
    ends = any(grid.row_ends for grid in detail)
    cells = sum(len(grid.columns) * len(grid.rows) for grid in detail)
    size = panel_size(picture.size, cells, room - ends * (STRIP + APART))
    half = (max(size[0] // 2 - 6, 1), max(round(size[1] * (size[0] // 2 - 6) / size[0]), 1))
    full = _view(picture, detail, size)
    return TokenViews(
        full,
        _view(picture, detail, half),
        _view(picture, overview, half) if overview else None,
        _ends(detail, full) if ends else None,
    )


def panel_size(picture: tuple[int, int], cells: int, room: int) -> tuple[int, int]:
    """Width and height of a panel for an image of so many cells, in its proportions where these allow.

    room: the width at which all stages stand in one line; taken where the cells stay large enough in it.
    """
    wide, high = picture
    across = (cells * wide / high) ** 0.5  # cells are about square
    longer = min(max(CELL * across * max(wide, high) / wide, SMALLEST), LARGEST)
    width = max(longer * wide / max(wide, high), NARROWEST)
    if room < width:
        width = min(width, max(room, FINEST * across, NARROWEST))
    height = min(width * high / wide, LARGEST)
    return round(width), max(round(height), LOWEST)


def _view(picture: Image.Image, grids: Sequence[Grid], size: tuple[int, int]) -> TokenView:
    from PIL import Image

    scale = (size[0] / picture.width, size[1] / picture.height)
    pixels = np.asarray(picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))
    return TokenView(pixels, token_map(grids, size, scale), scale)


def _ends(grids: Sequence[Grid], full: TokenView) -> TokenView:
    """A strip as high as a panel, with the token that ends each row beside that row."""
    wide, high = STRIP, full.size[1]
    tokens = np.full((high, wide), NOBODY, dtype=np.int64)
    for grid in grids:
        for token, (top, bottom) in grid.ends():
            y1, y2 = (min(max(round(y * full.scale[1]), 0), high) for y in (top, bottom))
            tokens[y1:y2] = token
    pixels = np.empty((high, wide, 3), dtype=np.uint8)
    pixels[:] = STRIP_PAPER
    return TokenView(pixels, tokens, (1.0, full.scale[1]))
