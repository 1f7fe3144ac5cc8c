"""What a page is made of: cells, tables, charts, items with answers; plain values, no HTML.

Text in them may come from anybody: it is made harmless where it is written (`html`, `islands`), not here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Box = tuple[float, float, float, float]
DENSE, PRUNE, REROUTE, OTHER = "dense", "prune", "reroute", "other"


def role_of(name: str | None, action: str | None) -> str:
    """Which of the page's colours an arm has: that of its action, whatever its method."""
    if name == DENSE or action is None:
        return DENSE
    return action if action in (PRUNE, REROUTE) else OTHER


@dataclass(frozen=True)
class Cell:
    """One cell of a table. key: what it is sorted by, its text where None. role: the arm's colour beside it.

    tone: "good", "bad" or "faint". note: a second, smaller line.
    """

    text: str
    key: float | None = None
    role: str = ""
    tone: str = ""
    note: str = ""


@dataclass(frozen=True)
class Column:
    """A header. right: numbers, flush right. help: what is under it, in a few words."""

    text: str
    right: bool = False
    help: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under headers that sort. left_out: rows that did not fit."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left_out: int = 0


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


@dataclass(frozen=True)
class Tile:
    """One number that a reader takes away. note: how it was made and how sure it is."""

    label: str
    value: str
    note: str = ""
    role: str = ""


@dataclass(frozen=True)
class Run:
    """One input as a section. folded: tables that wait behind a click."""

    kind: str
    name: str
    headline: str
    tiles: tuple[Tile, ...] = ()
    warnings: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Said:
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
    """What one stage did, as outlines of cells in pixels of the picture: SVG paths made of numbers alone.

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
    """The stages of one arm; the first is the picture before any of them."""

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
    """Where visual tokens went. width, height: of the picture, in pixels."""

    width: int
    height: int
    arms: tuple[MapArm, ...]


@dataclass(frozen=True)
class Item:
    """One question about a picture. image: as it was named. digest: of its file, where the record says so."""

    id: str
    image: str
    question: str
    source: str
    said: tuple[Said, ...]
    group: str = ""
    truth: str = ""
    truth_boxes: tuple[Box, ...] = ()
    digest: str | None = None
    map: TokenMap | None = None

    @property
    def boxes(self) -> tuple[Box, ...]:
        """Every box over its picture, a box that several arms say once."""
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
class Part:
    """What one input gives: its section, and its items for the gallery."""

    run: Run
    items: tuple[Item, ...] = field(default=())
