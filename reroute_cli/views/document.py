"""A document: what a record says, in blocks of plain values that every writer lays out in its own way.

Text in it may come from anybody: each writer makes it harmless for what it writes, nobody does so here.
Most blocks are for all writers; `on` names those that a block or a column is for. TEXT is the terminal and
Markdown, which have 80 columns; PAGE is HTML, which has room; DATA is CSV, which wants base units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from reroute_cli.console.units import UNKNOWN

TEXT, PAGE, DATA = "text", "page", "data"
SHOWN = (TEXT, PAGE)
DENSE, PRUNE, REROUTE, OTHER = "dense", "prune", "reroute", "other"

Box = tuple[float, float, float, float]
Value = str | int | float | None


class Tone(StrEnum):
    """How much a sentence matters. The first three are headlines, the last two of them verdicts."""

    HEADLINE = "headline"
    PASSED = "passed"
    FAILED = "failed"
    WARNING = "warning"
    NOTE = "note"


HEADLINES = (Tone.HEADLINE, Tone.PASSED, Tone.FAILED)


@dataclass(frozen=True)
class Heading:
    """The title of the blocks below it."""

    text: str
    on: tuple[str, ...] = SHOWN


@dataclass(frozen=True)
class Text:
    """One sentence. whole: a terminal never breaks it into lines, so that it can be copied and searched.

    command: what it says to type, at its end.
    """

    text: str
    tone: Tone = Tone.NOTE
    whole: bool = False
    on: tuple[str, ...] = SHOWN
    command: str = ""

    @property
    def line(self) -> str:
        """The sentence with its command."""
        return f"{self.text} {self.command}" if self.command else self.text


@dataclass(frozen=True)
class Tile:
    """One number to take away. note: how it was made and how sure it is. role: the arm's colour."""

    label: str
    value: str
    note: str = ""
    role: str = ""
    on: tuple[str, ...] = (PAGE,)


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    value: in base units; CSV writes it and pages sort by it where it is a number. note: a smaller line below
    the text where there is room, else behind it after `joint`. role: the arm's colour beside the text. tone:
    "good", "bad", "strong", "faint", or "unclear" for a difference that may be none. mark: a sign before the
    text where there are no colours.
    """

    text: str
    value: Value = None
    note: str = ""
    joint: str = " "
    role: str = ""
    tone: str = ""
    mark: str = ""

    @property
    def line(self) -> str:
        """Text and note on one line."""
        return f"{self.text}{self.joint}{self.note}" if self.note else self.text


BLANK, NOT_KNOWN = Cell(""), Cell(UNKNOWN)


@dataclass(frozen=True)
class Column:
    """A header and the key of its cells. right: numbers, flush right. help: what is under it, in a few words.

    part: text has too few columns for a wide table, and writes each part as a table of its own, the first
    column under the part's name before it.
    """

    key: str
    title: str
    right: bool = False
    help: str = ""
    part: str = ""
    on: tuple[str, ...] = (TEXT, PAGE, DATA)

    @property
    def label(self) -> str:
        """The title, or the key where text has none: pages name every column."""
        return self.title or self.key


@dataclass(frozen=True)
class Table:
    """Rows of cells by column key; a cell that a row lacks is empty.

    grouped: text writes the first column as a line of its own above the rows that share it. most: rows that
    text shows; more: what it says of the others, their number in place of {}. folded: pages show it on a
    click. caption: of pages, and of the parts of text that have no name.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Cell], ...]
    grouped: bool = False
    folded: bool = False
    most: int | None = None
    more: str = "and {} more"
    on: tuple[str, ...] = SHOWN

    def shown(self, writer: str) -> tuple[Column, ...]:
        """The columns that are for this writer."""
        return tuple(column for column in self.columns if writer in column.on)

    def parts(self) -> list[tuple[tuple[Column, ...], Sequence[Mapping[str, Cell]]]]:
        """What text writes: of each part its columns behind the first one, and the rows that say something.

        The first part has every row.
        """
        if not self.shown(TEXT):
            return []
        first, *others = self.shown(TEXT)
        rows = self.rows if self.most is None else self.rows[: self.most]
        made: list[tuple[tuple[Column, ...], Sequence[Mapping[str, Cell]]]] = []
        for part in dict.fromkeys(column.part for column in others) or [""]:
            own = tuple(column for column in others if column.part == part)
            said = [row for row in rows if any(row.get(column.key, BLANK).line for column in own)]
            key = replace(first, title=part) if part else first
            made.append(((key, *own), said if made else rows))
        return made

    @property
    def left_out(self) -> str:
        """What text says of the rows that it does not show; nothing where it shows all."""
        more = 0 if self.most is None else len(self.rows) - self.most
        return self.more.format(more) if more > 0 else ""


@dataclass(frozen=True)
class Chart:
    """A figure as Plotly takes it. label: what it shows, for who can't see it. data: the same as a table.

    span: "third", "half" or "full", of the page's width.
    """

    title: str
    label: str
    figure: dict[str, Any]
    data: Table
    note: str = ""
    span: str = "half"
    on: tuple[str, ...] = (PAGE,)


@dataclass(frozen=True)
class ArmAnswer:
    """One arm's answer to an item. pair: the same for a rerouted arm and its pruning twin.

    right: null where nobody judged it. note: of the judge.
    """

    arm: str
    role: str
    answer: str
    pair: str = ""
    right: bool | None = None
    boxes: tuple[Box, ...] = ()
    note: str = ""
    error: str = ""


@dataclass(frozen=True)
class MapStage:
    """What one stage did, as outlines of cells in pixels of the image: SVG paths made of numbers alone.

    back: tokens that re-entered.
    """

    title: str
    text: str
    back: int = 0
    deferred: str = ""
    pruned: str = ""
    reentered: str = ""


@dataclass(frozen=True)
class MapArm:
    """The stages of one arm; the first is the image before any of them."""

    name: str
    role: str
    stages: tuple[MapStage, ...]

    @property
    def first_seen(self) -> int:
        """The stage to begin with: where most came back, else the last."""
        most = max(self.stages, key=lambda stage: stage.back)
        return self.stages.index(most) if most.back else len(self.stages) - 1


@dataclass(frozen=True)
class TokenMap:
    """Where visual tokens went. width, height: of the image, in pixels."""

    width: int
    height: int
    arms: tuple[MapArm, ...]


@dataclass(frozen=True)
class GalleryItem:
    """One question about an image. image: as it was named. digest: of its file, where the record says so.

    source: the file that the record was read from, as a page names it.
    """

    id: str
    image: str
    question: str
    said: tuple[ArmAnswer, ...]
    source: str = ""
    group: str = ""
    truth: str = ""
    truth_boxes: tuple[Box, ...] = ()
    digest: str | None = None
    map: TokenMap | None = None

    @property
    def boxes(self) -> tuple[Box, ...]:
        """Every box over its image, a box that several arms say once."""
        return tuple(dict.fromkeys([*self.truth_boxes, *(box for said in self.said for box in said.boxes)]))

    @property
    def differs(self) -> bool:
        """Whether the answers are not all the same."""
        return len({said.answer.strip() for said in self.said if not said.error}) > 1

    @property
    def gained(self) -> bool:
        """Whether rerouting is right where the same method, pruning as much, is wrong."""
        wrong = {said.pair for said in self.said if said.role == PRUNE and said.right is False}
        return any(said.role == REROUTE and said.right is True and said.pair in wrong for said in self.said)


@dataclass(frozen=True)
class Gallery:
    """Questions with every arm's answer, over their images."""

    items: tuple[GalleryItem, ...]
    on: tuple[str, ...] = (PAGE,)


Block = Heading | Text | Tile | Table | Chart | Gallery


@dataclass(frozen=True)
class Document:
    """What one record says. kind: as the command that made it is called. Blocks stand in text's order."""

    kind: str
    blocks: tuple[Block, ...]

    def texts(self, writer: str, *tones: Tone) -> tuple[str, ...]:
        """The sentences of these tones that are for this writer."""
        found = (block for block in self.blocks if isinstance(block, Text) and writer in block.on)
        return tuple(block.line for block in found if block.tone in tones)

    @property
    def tables(self) -> tuple[Table, ...]:
        """Every table, those of charts left out."""
        return tuple(block for block in self.blocks if isinstance(block, Table))

    @property
    def items(self) -> tuple[GalleryItem, ...]:
        """The questions of every gallery."""
        return tuple(item for block in self.blocks if isinstance(block, Gallery) for item in block.items)
