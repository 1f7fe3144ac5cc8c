"""Which part of the original picture each visual token stands for, as grids of cells.

Pure arithmetic: knows no model, no processor and no picture. Pixels are those of the original picture,
upright; a cell may reach beyond its edge where the model saw padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Box = tuple[float, float, float, float]  # x1, y1, x2, y2
Span = tuple[float, float]  # from, to
Size = tuple[int, int]  # width, height

DETAIL = "detail"  # the picture once, at the finest that the model saw: one grid, or its tiles side by side
OVERVIEW = "overview"  # the whole picture again, coarser, beside tiles


@dataclass(frozen=True)
class Grid:
    """Consecutive visual tokens, row by row, over the picture or a tile of it.

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
