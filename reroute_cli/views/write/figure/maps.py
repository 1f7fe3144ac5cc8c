"""Images as arrays with the fate of each token on them: kept, deferred, taken back or pruned, and scores.

`views_of` works out the image and its token maps at the sizes of a figure, once for all panels. Knows
records, pixels, cells and states; no text and no page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reroute_cli.records.trace import DEFERRED, PRUNED, REENTERED, TraceRecord
from reroute_cli.views.write.figure.canvas import BLANK, INK, PAPER, REENTERED_RING, heat
from routing.grids import DETAIL, OVERVIEW, Box, Grid

if TYPE_CHECKING:
    from PIL import Image

Pixels = NDArray[np.uint8]  # (h, w, 3)
Tokens = NDArray[np.int64]  # (h, w): the token that a pixel belongs to, -1 for none
NOBODY = -1
_GRID_FROM = 7  # pixels of a cell from which on the lines between cells are drawn
_DARK, _FADED, _LINES, _DOTS = 0.30, 0.80, 0.22, 0.30
_HATCH = 7  # pixels from one hatching line to the next
_LOW, _HIGH = 2, 98  # percentiles of scores that are the ends of the colours
CELL, FINEST = 20, 6  # pixels of a token in a panel: where there is room for it, and at least
SMALLEST, LARGEST = 300, 640  # pixels of a panel's longer side
NARROWEST, LOWEST = 250, 60  # of its width and its height
STRIP, APART = 10, 4  # width of the strip of row ends, and its distance from the panel
STRIP_PAPER = np.array([[(186, 190, 196)]], dtype=np.uint8)  # (1, 1, 3)


def token_map(grids: Iterable[Grid], size: tuple[int, int], scale: tuple[float, float]) -> Tokens:
    """Which token each pixel of a drawing belongs to. scale: pixels of the drawing for one of the image."""
    wide, high = size
    found = np.full((high, wide), NOBODY, dtype=np.int64)
    for grid in grids:
        for token, box in grid.cells():
            x1, y1, x2, y2 = scaled(box, scale, size)
            found[y1:y2, x1:x2] = token
    return found


def scaled(box: Box, scale: tuple[float, float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A box of the image in whole pixels of the drawing, and no further than its edge."""
    (across, down), (wide, high) = scale, size
    x1, x2 = (min(max(round(x * across), 0), wide) for x in (box[0], box[2]))
    y1, y2 = (min(max(round(y * down), 0), high) for y in (box[1], box[3]))
    return x1, y1, x2, y2


def state_map(picture: Pixels, tokens: Tokens, states: str, *, lines: bool) -> Pixels:
    """The image with the state of each token on it. lines: between the cells."""
    letters = np.frombuffer((states + " ").encode("ascii"), dtype=np.uint8)[tokens]
    found = picture.astype(np.float64)
    deferred = letters == ord(DEFERRED)
    found = _mixed(found, deferred, 0.0, 1 - _DARK)
    rows, columns = np.indices(tokens.shape)
    dots = (rows % 4 == 2) & (
        (columns + rows // 4 % 2 * 2) % 4 == 2
    )  # what is darkened shows on a dark image
    found = _mixed(found, deferred & dots, 255.0, _DOTS)
    pruned = letters == ord(PRUNED)
    grey = found.mean(axis=-1, keepdims=True).repeat(3, axis=-1)
    found = np.where(pruned[..., None], grey * (1 - _FADED) + 255 * _FADED, found)
    found[pruned & _hatching(tokens.shape)] = (168, 172, 178)
    if lines:
        borders = np.zeros(tokens.shape, dtype=np.bool_)  # the left and top pixels of every cell
        borders[:, 1:] |= tokens[:, 1:] != tokens[:, :-1]
        borders[1:, :] |= tokens[1:, :] != tokens[:-1, :]
        found = _mixed(found, borders & ~pruned, 0.0, _LINES)
    found = _mixed(found, tokens == NOBODY, 255.0, 0.72)
    back = letters == ord(REENTERED)  # a ring just inside of each region, a dark line sets off what it holds
    inner = _eroded(back, 2)
    found[back & ~inner] = REENTERED_RING
    found[inner & ~_eroded(inner, 1)] = INK
    return found.round().astype(np.uint8)


def score_map(tokens: Tokens, scores: Sequence[float | None]) -> Pixels:
    """The score of each token as a colour, hatched grey where it has none."""
    values = np.array([np.nan if score is None else score for score in (*scores, None)])
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, (_LOW, _HIGH)) if len(known) else (0.0, 1.0)
    shares = np.clip((values - low) / ((high - low) or 1.0), 0.0, 1.0)
    found = heat(np.nan_to_num(shares))[tokens]
    unknown = ~np.isfinite(values)[tokens]
    found[unknown] = BLANK
    found[unknown & _hatching(tokens.shape)] = (200, 204, 209)
    found[tokens == NOBODY] = PAPER
    return found


def draws_lines(tokens: Tokens) -> bool:
    """Whether the cells are large enough for lines between them."""
    inside = tokens[tokens != NOBODY]
    if not len(inside):
        return False
    return len(inside) / len(np.unique(inside)) >= _GRID_FROM**2


def _mixed(
    pixels: NDArray[np.float64], where: NDArray[np.bool_], with_: float, share: float
) -> NDArray[np.float64]:
    """Pixels, blended with a grey by this share where the mask says so."""
    return np.where(where[..., None], pixels * (1 - share) + with_ * share, pixels)


def _hatching(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Diagonal lines."""
    rows, columns = np.indices(shape)
    lines: NDArray[np.bool_] = (rows + columns) % _HATCH == 0
    return lines


def _eroded(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """What is left of a mask when so many pixels at its edge are taken away; the drawing's edge is one."""
    for _ in range(steps):
        padded = np.pad(mask, 1)
        mask = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        diagonal = padded[:-2, :-2] & padded[2:, 2:] & padded[:-2, 2:] & padded[2:, :-2]
        mask = mask & diagonal
    return mask


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
