"""What an image becomes on its way into a model: patches for the vision tower, and cells of visual tokens.

Pure arithmetic: knows no model, no processor and no pixels. Places are in pixels of the original image,
upright; a cell may reach beyond its edge where the model saw padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor

Box = tuple[float, float, float, float]  # x1, y1, x2, y2
Span = tuple[float, float]  # from, to
Size = tuple[int, int]  # width, height
PatchGrid = tuple[int, int, int]  # frames, rows, columns, in patches

DETAIL = "detail"  # the image once, at the finest that the model saw: one grid, or its tiles side by side
OVERVIEW = "overview"  # the whole image again, coarser, beside tiles


@dataclass(frozen=True)
class Grid:
    """Consecutive visual tokens, row by row, over the image or a tile of it.

    view: DETAIL or OVERVIEW. rows, columns: from top to bottom and left to right, where each reaches from and
    to. first: the grid's first token among the prompt's visual tokens. row_ends: each row is followed by one
    token that marks its end and stands for no place.
    """

    view: str
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    first: int
    row_ends: bool = False

    @property
    def width(self) -> int:
        """Tokens of a row, the one that ends it included."""
        return len(self.columns) + self.row_ends

    @property
    def count(self) -> int:
        """Tokens of this grid."""
        return len(self.rows) * self.width

    def token(self, row: int, column: int) -> int:
        """The token of a cell."""
        return self.first + row * self.width + column

    def cells(self) -> Iterator[tuple[int, Box]]:
        """Every token that has a place, with it."""
        for row, (top, bottom) in enumerate(self.rows):
            for column, (left, right) in enumerate(self.columns):
                yield self.token(row, column), (left, top, right, bottom)

    def ends(self) -> Iterator[tuple[int, Span]]:
        """Every token that marks the end of a row, with that row's top and bottom."""
        if self.row_ends:
            for row, span in enumerate(self.rows):
                yield self.token(row, len(self.columns)), span


@dataclass(frozen=True)
class View:
    """What part of the original image the model saw, and at which size.

    left, top, width, height: in pixels of the original (a centre crop may also reach beyond it, as padding).
    columns, rows: the size of the resized image that entered the vision tower, in pixels.
    """

    left: float
    top: float
    width: float
    height: float
    columns: int
    rows: int

    @property
    def box(self) -> Box:
        """The part that was seen."""
        return (self.left, self.top, self.left + self.width, self.top + self.height)


@dataclass(frozen=True)
class ImageGrids:
    """One image inside a prompt: the one source of its cost, its token count and its geometry.

    patches: what the vision tower gets, the whole image or its tiles. cells: the visual tokens with a place
    in the image, and the ends of rows. unplaced: visual tokens before them that stand for no place (CLS).
    """

    patches: tuple[PatchGrid, ...]
    cells: tuple[Grid, ...]
    unplaced: int = 0

    @property
    def visual(self) -> int:
        """Visual tokens of this image in the prompt."""
        return self.unplaced + sum(grid.count for grid in self.cells)


def whole(size: Size) -> Box:
    """All of an image."""
    return (0.0, 0.0, float(size[0]), float(size[1]))


def spans(count: int, start: float, step: float) -> tuple[Span, ...]:
    """So many equal spans in a row."""
    return tuple((start + index * step, start + (index + 1) * step) for index in range(count))


def covered(box: Box, rows: int, columns: int, first: int = 0, view: str = DETAIL) -> Grid:
    """A grid of equal cells that fill a box."""
    left, top, right, bottom = box
    return Grid(
        view,
        spans(rows, top, (bottom - top) / rows),
        spans(columns, left, (right - left) / columns),
        first,
    )


def framed(box: Box, frame: Size, cell: int, first: int = 0, view: str = DETAIL) -> Grid:
    """The cells, `cell` pixels wide and high, of a frame that shows `box`; its last pixels may have none."""
    left, top, right, bottom = box
    wide, high = frame
    across, down = (right - left) / wide * cell, (bottom - top) / high * cell
    return Grid(view, spans(high // cell, top, down), spans(wide // cell, left, across), first)


def tiled(size: Size, frame: Size, patch: int, merge: int, rows: int, columns: int) -> ImageGrids:
    """An image stretched to rows x columns of tiles, and behind them the whole once more in one tile.

    frame: width and height of a tile in pixels. patch: side of a patch in pixels. merge: patches along the
    side of a cell. An image that fits one tile is that tile alone.
    """
    (width, height), (wide, high) = size, frame
    boxes = [
        (
            column * width / columns,
            row * height / rows,
            (column + 1) * width / columns,
            (row + 1) * height / rows,
        )
        for row in range(rows)
        for column in range(columns)
    ]
    views = [DETAIL] * len(boxes)
    if len(boxes) > 1:
        boxes, views = [*boxes, whole(size)], [*views, OVERVIEW]
    count = (wide // patch // merge) * (high // patch // merge)
    cells = [
        framed(box, frame, patch * merge, index * count, view)
        for index, (box, view) in enumerate(zip(boxes, views, strict=True))
    ]
    return ImageGrids(((1, high // patch, wide // patch),) * len(boxes), tuple(cells))


@dataclass(frozen=True)
class Canvas:
    """Square tiles side by side, with an image scaled into their middle.

    tile: pixels of a tile's side. patch: of a patch's. rows, columns: of tiles. size: of the original image.
    """

    tile: int
    patch: int
    rows: int
    columns: int
    size: Size

    @property
    def side(self) -> int:
        """Patches along a tile's side."""
        return self.tile // self.patch

    @property
    def shown(self) -> tuple[int, int, int, int]:
        """Patches between which the image lies, without padding: top, bottom, left, right."""
        (width, height), rows, columns = self.size, self.rows * self.side, self.columns * self.side
        top = left = 0
        if width / height > columns / rows:
            top = (rows - int(round(height * (columns / width), 7))) // 2
        else:
            left = (columns - int(round(width * (rows / height), 7))) // 2
        return top, rows - top, left, columns - left

    def original(self, spans: Sequence[Span], axis: int) -> tuple[Span, ...]:
        """Spans of patches of the canvas, in pixels of the original's width (axis 0) or height (axis 1)."""
        (width, height), wide, high = self.size, self.columns * self.tile, self.rows * self.tile
        if wide / width < high / height:
            scaled = (wide, min(ceil(height * (wide / width)), high))
        else:
            scaled = (min(ceil(width * (high / height)), wide), high)
        pasted = ((wide, high)[axis] - scaled[axis]) // 2
        scale = self.size[axis] / scaled[axis]
        found = []
        for start, end in spans:
            first, last = floor(start) // self.side, (ceil(end) - 1) // self.side  # the tiles of the two ends
            low = first * self.tile + (start - first * self.side) * self.patch
            high_end = last * self.tile + (end - last * self.side) * self.patch
            found.append(((low - pasted) * scale, (high_end - pasted) * scale))
        return tuple(found)


def tokens_within(grids: Sequence[Grid], boxes: Sequence[Box]) -> tuple[int, ...]:
    """The tokens whose cell has its centre in one of the boxes, of all views, ascending."""
    found = {
        token
        for grid in grids
        for token, (x1, y1, x2, y2) in grid.cells()
        if any(
            left <= (x1 + x2) / 2 < right and top <= (y1 + y2) / 2 < bottom
            for left, top, right, bottom in boxes
        )
    }
    return tuple(sorted(found))


def placed(grids: Sequence[Grid]) -> int:
    """How many tokens have a place."""
    return sum(len(grid.rows) * len(grid.columns) for grid in grids)
