"""What the signs of a trace's figure mean, beside the dense answer. Only signs that occur are explained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from reroute_cli.records.trace import DEFERRED, KEPT, PRUNED, REENTERED, TraceRecord
from reroute_cli.views.write.figure import palette
from reroute_cli.views.write.figure.canvas import FigureCanvas
from reroute_cli.views.write.figure.maps import NOBODY, Pixels, state_map
from reroute_cli.views.write.figure.views import STRIP, STRIP_PAPER, TokenViews

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
class _Entry:
    """One sign: a state, or a box in a colour, or the bar of scores."""

    kind: Literal["state", "box", "dashed", "unseen", "ends", "bar"]
    words: str
    state: str = ""
    colour: palette.Colour = palette.INK


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
        given = record.target.source == "given"
        words = "box that was given" if given else "box of the dense answer"
        found.append(_Entry("box", f"{words}; percentages are of its tokens", colour=palette.TARGET))
    if any(arm.boxes for arm in record.arms[1:]):
        found.append(_Entry("dashed", "box of this arm's answer", colour=palette.ANSWER))
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
        canvas.picture((x, y), palette.heat(shares))
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
