"""A trace, `reroute.trace/1`: where every visual token went, stage by stage, over the picture.

Knows the record and the geometry of cells; not how a page is drawn. Paths are made of numbers alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from reroute_cli.pages import cells
from reroute_cli.pages.pieces import (
    Box,
    Cell,
    Column,
    Item,
    MapArm,
    MapStage,
    Part,
    Run,
    Said,
    Table,
    Tile,
    TokenMap,
    role_of,
)
from reroute_cli.records.trace import DEFERRED, PRUNED, REENTERED, TraceArm, TraceRecord, TraceStage
from reroute_cli.reporting.generation import not_neutral
from reroute_cli.reporting.score_words import arm_title, plain_number
from reroute_cli.reporting.words import short

_DIGITS = 2


def part_of(report: TraceRecord, name: str) -> Part:
    """The section of a trace, and its picture with the token map."""
    question = short(report.question, cells.TEXT)
    traced = ", ".join(_title(arm) for arm in report.arms[1:])
    run = Run(
        kind="trace",
        name=name,
        headline=f"“{question}” under {traced}: see the picture below",
        tiles=tuple(_tiles(report)),
        warnings=tuple(not_neutral(report.generation)),
        tables=(_stages(report), _answers(report)),
        notes=(
            f"{report.visual_tokens} visual tokens, {report.layers} decoder layers; recall: share of the "
            "tokens centred in the target's box that a stage keeps",
        ),
    )
    item = Item(
        id=short(report.picture.path.replace("\\", "/").rpartition("/")[2], cells.NAME),
        image=report.picture.path,
        question=report.question,
        source=name,
        said=tuple(_said(arm) for arm in report.arms),
        truth_boxes=tuple(report.target.boxes or ()) if report.target.source == "given" else (),
        digest=report.picture.digest,
        map=_map(report),
    )
    return Part(run, (item,))


def _title(arm: TraceArm) -> str:
    return arm_title(arm.name, arm.action, cells.NAME)


def _role(arm: TraceArm) -> str:
    return role_of(arm.name, arm.action or "other")


def _said(arm: TraceArm) -> Said:
    note = "" if arm.overlap is None else f"overlap {plain_number(arm.overlap)}"
    return Said(_title(arm), _role(arm), arm.answer, arm.method or "", None, tuple(arm.boxes or ()), note)


def _tiles(report: TraceRecord) -> Iterator[Tile]:
    for arm in report.arms[1:]:
        last = arm.stages[-1] if arm.stages else None
        if last is not None and last.recall is not None:
            yield Tile(
                f"recall of the target, last stage, {_title(arm)}",
                f"{last.recall:.0%}",
                "counted",
                _role(arm),
            )
        yield Tile(
            f"never used, {_title(arm)}",
            f"{arm.never_used} of {report.visual_tokens}",
            "visual tokens, counted",
            _role(arm),
        )


def _stages(report: TraceRecord) -> Table:
    columns = [Column("schedule"), Column("stage")]
    columns += [Column(text, right=True) for text in ("layer", "kept", "re-entered", "recall of the target")]
    rows = [
        (
            cells.name(_title(arm), _role(arm)),
            Cell(stage.where),
            cells.count(stage.layer),
            cells.count(stage.kept),
            cells.count(stage.reentered),
            Cell("–" if stage.recall is None else f"{stage.recall:.0%}", stage.recall),
        )
        for arm in report.arms
        for stage in arm.stages
    ]
    return cells.table("Every stage", columns, rows)


def _answers(report: TraceRecord) -> Table:
    columns = [
        Column("schedule"),
        Column("answer"),
        Column("tokens/layer", right=True),
        Column("overlap", right=True),
    ]
    rows = [
        (
            cells.name(_title(arm), _role(arm)),
            cells.text(arm.answer),
            cells.tokens(arm.visual_tokens_per_layer),
            Cell("–" if arm.overlap is None else plain_number(arm.overlap), arm.overlap),
        )
        for arm in report.arms
    ]
    return cells.table("Every answer", columns, rows)


def _map(report: TraceRecord) -> TokenMap:
    places = _places(report)
    arms = tuple(_arm(arm, places, report.visual_tokens) for arm in report.arms if arm.stages)
    return TokenMap(report.picture.width, report.picture.height, arms)


def _places(report: TraceRecord) -> dict[int, Box]:
    """By token of the finest view: its cell, cut off at the picture's edge."""
    found: dict[int, Box] = {}
    width, height = float(report.picture.width), float(report.picture.height)
    for grid in (grid for grid in report.grids if grid.view == "detail"):
        step = len(grid.columns) + grid.row_ends
        for row, (top, bottom) in enumerate(grid.rows):
            for column, (left, right) in enumerate(grid.columns):
                cell = (max(0.0, left), max(0.0, top), min(width, right), min(height, bottom))
                if cell[0] < cell[2] and cell[1] < cell[3]:
                    found[grid.first + row * step + column] = cell
    return found


def _arm(arm: TraceArm, places: dict[int, Box], visual: int) -> MapArm:
    start = MapStage("before", f"all {visual} visual tokens")
    stages = tuple(_stage(stage, places, visual) for stage in arm.stages)
    return MapArm(_title(arm), _role(arm), (start, *stages))


def _stage(stage: TraceStage, places: dict[int, Box], visual: int) -> MapStage:
    title = "vision tower" if stage.where == "vision" else f"layer {stage.layer}"
    parts = [f"{stage.kept} of {visual} kept"]
    parts += [f"{stage.reentered} re-entered"] if stage.reentered else []
    parts += [f"{stage.recall:.0%} of the target"] if stage.recall is not None else []
    outlines = (_outline(stage.states, state, places) for state in (DEFERRED, PRUNED, REENTERED))
    return MapStage(title, " · ".join(parts), stage.reentered, *outlines)


def _outline(states: str, wanted: str, places: dict[int, Box]) -> str:
    """One SVG path around every cell of this state; neighbours in a row are one rectangle."""
    runs: list[list[float]] = []
    for token in (token for token, state in enumerate(states) if state == wanted and token in places):
        left, top, right, bottom = places[token]
        if (
            wanted != REENTERED
            and runs
            and runs[-1][1:4:2] == [top, bottom]
            and abs(runs[-1][2] - left) < 1e-6
        ):
            runs[-1][2] = right
        else:
            runs.append([left, top, right, bottom])
    return "".join(
        f"M{_n(left)} {_n(top)}H{_n(right)}V{_n(bottom)}H{_n(left)}Z" for left, top, right, bottom in runs
    )


def _n(value: float) -> str:
    """A number as SVG takes it, without needless digits."""
    return f"{round(value, _DIGITS):g}" if abs(value) < 1e5 else f"{value:.0f}"
