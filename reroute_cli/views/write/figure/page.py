"""A trace as one figure: a block of panels an arm, a column a stage.

Beside the dense answer stands what the signs mean; only signs that occur are explained. Knows records and
views; how a panel is coloured is in maps.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Literal

import numpy as np

from reroute_cli.console import units
from reroute_cli.records.trace import DEFERRED, KEPT, PRUNED, REENTERED, TraceArm, TraceRecord, TraceStage
from reroute_cli.views.wording import place
from reroute_cli.views.write.figure.canvas import (
    ANSWER,
    ARMS,
    INK,
    RULE,
    SOFT,
    TARGET,
    Colour,
    FigureCanvas,
    drawable,
    heat,
    wrapped,
)
from reroute_cli.views.write.figure.maps import (
    NOBODY,
    STRIP,
    STRIP_PAPER,
    Pixels,
    TokenView,
    TokenViews,
    state_map,
    views_of,
)

if TYPE_CHECKING:
    from PIL import Image

MARGIN, GAP = 40, 28
TITLE, NAME, BODY, SMALL = 27, 21, 17, 15
# heights of the page's head, of an arm's line, of a panel's line, of the space below an arm
_HEAD, _ARM, _CAPTION, _BLOCK = 92, 42, 26, 22
_WIDEST, _IN_A_LINE = 2000, 5  # pixels of a page, stages that are made to fit it
_ANSWER_LINES = 4
SWATCH = (54, 36)
LEGEND_WIDTH = 540
_LINE, _BODY, _COLUMN = 50, 17, LEGEND_WIDTH
_CELL = 18
_RIM = 0.01  # of a panel: a line of pixels at its edge needs no explanation
_STATES = {
    KEPT: "kept: runs through this stage's layers",
    DEFERRED: "deferred: bypasses this stage and may come back",
    REENTERED: "re-entered: kept again after being deferred",
    PRUNED: "pruned: gone for good",
}


@dataclass(frozen=True)
class Figure:
    """A finished drawing. replaced: characters that its font lacks."""

    png: bytes
    replaced: int


@dataclass(frozen=True)
class Sheet:
    """Where things stand. per_line: stages side by side. answers: lines that the longest answer takes."""

    views: TokenViews
    per_line: int
    answers: int

    @property
    def panel(self) -> tuple[int, int]:
        """Width and height of a panel."""
        return self.views.full.size

    @property
    def column(self) -> int:
        """From one panel's left edge to the next one's."""
        return self.panel[0] + self.views.strip + GAP

    @property
    def width(self) -> int:
        """Of the page."""
        natural = 2 * MARGIN + (1 + self.per_line) * self.column - GAP
        return max(natural, self.x(1) + LEGEND_WIDTH + MARGIN)

    @property
    def below(self) -> int:
        """Pixels below a stage's panel: half-size maps and numbers."""
        numbers = 2 * 24 if self.views.overview else 0
        return 24 + max(self.views.half.size[1] + 24, 0 if self.views.overview else 5 * 22) + numbers

    def lines(self, arm: TraceArm) -> int:
        """Lines of panels."""
        return max(1, ceil(len(arm.stages) / self.per_line))

    def height_of(self, arm: TraceArm) -> int:
        """Pixels of an arm's block."""
        line = _CAPTION + self.panel[1] + self.below
        said = _CAPTION + self.panel[1] + 10 + self.answers * 22
        return _ARM + max(self.lines(arm) * line, said) + _BLOCK

    def x(self, column: int) -> int:
        """The left edge of a column; 0 is that of the answers."""
        return MARGIN + column * self.column


def draw_trace(record: TraceRecord, picture: Image.Image) -> Figure:
    """The figure of a trace over its picture: the legend beside the dense answer, then arm by arm."""
    sheet = _sheet(record, picture)
    dense, routed = record.arms[0], record.arms[1:]
    answer = _CAPTION + sheet.panel[1] + 10 + sheet.answers * 22
    legend = _CAPTION + legend_height(record, sheet.views, sheet.width - MARGIN - sheet.x(1))
    y = _HEAD + _ARM + max(answer, legend) + _BLOCK
    canvas = FigureCanvas(sheet.width, y + sum(map(sheet.height_of, routed)) + MARGIN // 2)
    _head(canvas, record, sheet)
    _arm_line(canvas, record, dense, _HEAD, sheet)
    _answer_panel(canvas, record, dense, _HEAD + _ARM, sheet)
    draw_legend(canvas, record, sheet.views, (sheet.x(1), _HEAD + _ARM + _CAPTION), sheet.width - MARGIN)
    line = _CAPTION + sheet.panel[1] + sheet.below
    for arm in routed:
        _arm_line(canvas, record, arm, y, sheet)
        _answer_panel(canvas, record, arm, y + _ARM, sheet)
        for number, stage in enumerate(arm.stages):
            row, column = divmod(number, sheet.per_line)
            at = (sheet.x(1 + column), y + _ARM + row * line)
            _stage_panel(canvas, record, arm, stage, at, sheet)
        y += sheet.height_of(arm)
    return Figure(canvas.png(), canvas.replaced)


def _sheet(record: TraceRecord, picture: Image.Image) -> Sheet:
    longest = max(len(arm.stages) for arm in record.arms)
    room = _WIDEST - 2 * MARGIN + GAP
    views = views_of(record, picture, room // (1 + min(longest, _IN_A_LINE)) - GAP)
    fitting = max(1, room // (views.full.size[0] + views.strip + GAP) - 1)
    lines = ceil(longest / fitting)
    wide = views.full.size[0]
    said = (drawable(arm.answer)[0] for arm in record.arms)
    answers = max(len(wrapped(text, BODY, wide, _ANSWER_LINES)) for text in said)
    return Sheet(views, ceil(longest / lines), max(answers, 1))


def _head(canvas: FigureCanvas, record: TraceRecord, sheet: Sheet) -> None:
    """The question, and what it was asked of: 'pocket · pdrop at reduction ratio 0.800 · ...'."""
    room, last = sheet.width - 2 * MARGIN, record.arms[-1]
    canvas.text((MARGIN, 26), record.question, TITLE, width=room)
    picture = record.picture
    name = picture.path.replace("\\", "/").rsplit("/", 1)[-1]
    schedule = f"{last.method} at reduction ratio {last.achieved_ratio:.3f}"
    parts = (
        record.model.id if record.model.weights == "loaded" else f"{record.model.id} with random weights",
        schedule if last.profile is None else f"profile {last.profile}",
        f"{record.visual_tokens} visual tokens in {record.layers} decoder layers",
        f"{name}, {picture.width} × {picture.height}",
    )
    canvas.text((MARGIN, 62), " · ".join(parts), BODY, SOFT, width=room)


def _arm_line(canvas: FigureCanvas, record: TraceRecord, arm: TraceArm, y: int, sheet: Sheet) -> None:
    """An arm's name over its panels, and in one line what it cost and what it left out."""
    canvas.fill((MARGIN, y, sheet.width - MARGIN - 1, y), RULE)
    canvas.fill((MARGIN, y + 13, MARGIN + 5, y + 33), ARMS[arm.action])
    wide = canvas.text((MARGIN + 15, y + 12), arm.action or "dense", NAME)
    parts = [f"{units.tokens(arm.visual_tokens_per_layer)} of {record.visual_tokens} visual tokens a layer"]
    if arm.stages:
        share = _share(arm.never_used, record.visual_tokens)
        parts.append(f"{arm.never_used} ({share}) never used from layer {arm.stages[0].layer} on")
    if arm.overlap is not None and (arm.stages or record.target.basis == "given"):
        parts.append(f"box overlap (IoU) {arm.overlap:.2f}")
    room, at = sheet.width - 2 * MARGIN - wide - 35, (MARGIN + 15 + wide + 20, y + 15)
    canvas.text(at, " · ".join(parts), BODY, SOFT, width=room)


def _answer_panel(canvas: FigureCanvas, record: TraceRecord, arm: TraceArm, y: int, sheet: Sheet) -> None:
    """The image with the target and what the arm said, in words and as a box."""
    x, (wide, high) = sheet.x(0), sheet.panel
    canvas.text((x, y), "answer", BODY, SOFT)
    canvas.picture((x, y + _CAPTION), sheet.views.full.pixels)
    _boxes(canvas, sheet.views.full, record.target.boxes or (), (x, y + _CAPTION), TARGET)
    if arm.stages or record.target.basis == "given":  # elsewhere it is the target
        _boxes(canvas, sheet.views.full, arm.boxes or (), (x, y + _CAPTION), ANSWER, dashed=True)
    said = arm.answer or "(nothing)"
    canvas.paragraph((x, y + _CAPTION + high + 10), said, BODY, wide, _ANSWER_LINES)


def _boxes(
    canvas: FigureCanvas,
    view: TokenView,
    boxes: Sequence[tuple[float, float, float, float]],
    at: tuple[int, int],
    colour: Colour,
    *,
    dashed: bool = False,
    thick: int = 3,
) -> None:
    for box in boxes:
        x1, y1, x2, y2 = view.box(box)
        canvas.frame((at[0] + x1, at[1] + y1, at[0] + x2, at[1] + y2), colour, thick=thick, dashed=dashed)


def _stage_panel(
    canvas: FigureCanvas,
    record: TraceRecord,
    arm: TraceArm,
    stage: TraceStage,
    at: tuple[int, int],
    sheet: Sheet,
) -> None:
    """One stage: its map, and below it scores, the overview's tokens and numbers."""
    (x, y), views, (wide, high) = at, sheet.views, sheet.panel
    taken = canvas.text((x, y), place(stage.where, stage.layer), BODY, INK)
    canvas.text(
        (x + wide, y),
        f"keeps {stage.kept} of {record.visual_tokens}",
        BODY,
        SOFT,
        right=True,
        width=wide - taken - 8,
    )
    top = y + _CAPTION
    canvas.picture((x, top), views.full.states(stage.states))
    _boxes(canvas, views.full, record.target.boxes or (), (x, top), TARGET, thick=2)
    if views.ends is not None:
        canvas.picture((x + wide + 4, top), views.ends.states(stage.states))
    _below(canvas, record, arm, stage, (x, top + high + 10), sheet)


def _below(
    canvas: FigureCanvas,
    record: TraceRecord,
    arm: TraceArm,
    stage: TraceStage,
    at: tuple[int, int],
    sheet: Sheet,
) -> None:
    (x, y), views = at, sheet.views
    half, right = views.half.size, x + sheet.panel[0] - views.half.size[0]
    if stage.scores is not None:
        canvas.picture((x, y), views.half.scores(stage.scores))
        _boxes(canvas, views.half, record.target.boxes or (), (x, y), TARGET, thick=1)
    else:
        canvas.paragraph((x, y), "not scored: every candidate is kept", SMALL, half[0], 3, SOFT)
    canvas.text((x, y + half[1] + 5), "scores", SMALL, SOFT)
    if views.overview is None:
        for number, line in enumerate(_stage_numbers(record, arm, stage)):
            canvas.text((right + 6, y - 3 + number * 22), line, BODY, width=half[0] - 6)
        return
    canvas.picture((right, y), views.overview.states(stage.states))
    canvas.text((right, y + half[1] + 5), "whole-image tokens", SMALL, SOFT, width=half[0])
    lines = _stage_numbers(record, arm, stage)
    for number in range(2):
        words = " · ".join(lines[number * 2 : number * 2 + 2])
        canvas.text((x, y + half[1] + 27 + number * 22), words, BODY, width=sheet.panel[0])


def _stage_numbers(record: TraceRecord, arm: TraceArm, stage: TraceStage) -> list[str]:
    """'27% kept', '12 re-entered', '83% of the box', and the row ends where there are any."""
    lines = [f"{_share(stage.kept, record.visual_tokens)} kept"]
    if arm.action == "reroute":
        lines.append(f"{stage.reentered} re-entered")
    if stage.recall is not None:
        lines.append(f"{stage.recall:.0%} of the box")
    if record.unplaced:
        lines.append(f"{stage.kept_unplaced} of {record.unplaced} row ends")
    return lines


def _share(part: int, whole: int) -> str:
    """A share in percent, with a decimal where it is small."""
    share = part / whole
    return f"{share:.1%}" if 0 < share < 0.01 else f"{share:.0%}"


@dataclass(frozen=True)
class _Entry:
    """One sign: a state, or a box in a colour, or the bar of scores."""

    kind: Literal["state", "box", "dashed", "unseen", "ends", "bar"]
    words: str
    state: str = ""
    colour: Colour = INK


def draw_legend(
    canvas: FigureCanvas, record: TraceRecord, views: TokenViews, at: tuple[int, int], right: int
) -> None:
    """All entries below one another, in two columns where there is room."""
    x, y = at
    entries = _entries(record, views)
    per = _per_column(entries, right - x)
    texture = _texture(views)
    for number, entry in enumerate(entries):
        column, row = divmod(number, per)
        width = min(_COLUMN, right - x - column * _COLUMN)
        _draw(canvas, entry, texture, (x + column * _COLUMN, y + row * _LINE), width)


def legend_height(record: TraceRecord, views: TokenViews, room: int) -> int:
    """Pixels that it needs."""
    return _per_column(_entries(record, views), room) * _LINE


def _per_column(entries: list[_Entry], room: int) -> int:
    return len(entries) if room < 2 * _COLUMN else (len(entries) + 1) // 2


def _entries(record: TraceRecord, views: TokenViews) -> list[_Entry]:
    used = {state for arm in record.arms for stage in arm.stages for state in stage.states}
    found = [_Entry("state", words, state) for state, words in _STATES.items() if state in used]
    if record.target.boxes:
        given = record.target.basis == "given"
        words = "box that was given" if given else "box of the dense answer"
        found.append(_Entry("box", f"{words}; percentages are of its tokens", colour=TARGET))
    if any(arm.boxes for arm in record.arms[1:]):
        found.append(_Entry("dashed", "box of this arm's answer", colour=ANSWER))
    if float((views.full.tokens == NOBODY).mean()) > _RIM:
        found.append(_Entry("unseen", "outside of what the model sees"))
    if views.ends is not None:
        found.append(_Entry("ends", "right of a panel: tokens that end its rows"))
    if any(stage.scores is not None for arm in record.arms for stage in arm.stages):
        found.append(_Entry("bar", "scores, low to high; hatched: no candidate"))
    return found


def _draw(canvas: FigureCanvas, entry: _Entry, texture: Pixels, at: tuple[int, int], width: int) -> None:
    x, y = at
    wide, high = SWATCH
    if entry.kind == "bar":
        shares = np.linspace(0.0, 1.0, wide)[None, :].repeat(high, axis=0)
        canvas.picture((x, y), heat(shares))
    elif entry.kind in ("box", "dashed"):
        canvas.picture((x, y), texture)
        inside = (x + 5, y + 5, x + wide - 6, y + high - 6)
        canvas.frame(inside, entry.colour, thick=3, dashed=entry.kind == "dashed")
    elif entry.kind == "ends":
        strip = STRIP_PAPER.repeat(high, axis=0).repeat(STRIP, axis=1)
        canvas.picture((x + (wide - STRIP) // 2, y), _swatch(strip, KEPT))
    else:
        canvas.picture((x, y), _swatch(texture, entry.state))
    canvas.text((x + wide + 14, y + (high - _BODY) // 2 - 1), entry.words, _BODY, width=width - wide - 24)


def _texture(views: TokenViews) -> Pixels:
    """The middle of the image, at a swatch's size."""
    wide, high = SWATCH
    pixels = views.full.pixels
    top, left = max((pixels.shape[0] - high) // 2, 0), max((pixels.shape[1] - wide) // 2, 0)
    found = np.empty((high, wide, 3), dtype=np.uint8)
    found[:] = 200
    piece = pixels[top : top + high, left : left + wide]
    found[: piece.shape[0], : piece.shape[1]] = piece
    return found


def _swatch(texture: Pixels, state: str) -> Pixels:
    """A few cells in one state; no state: outside of every token."""
    rows, columns = np.indices(texture.shape[:2])
    tokens = rows // _CELL * (texture.shape[1] // _CELL + 1) + columns // _CELL
    if not state:
        tokens = np.full_like(tokens, NOBODY)
    return state_map(texture, tokens, state * int(tokens.max() + 1), lines=True)
