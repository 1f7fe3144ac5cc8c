"""A search for a schedule, `reroute.tune/1`: what was found, against the published methods, and how.

Knows the record and its words; not how a page is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator

from reroute_cli.console import units
from reroute_cli.pages import cells, charts
from reroute_cli.pages.pieces import Cell, Chart, Column, Part, Run, Table, Tile, role_of
from reroute_cli.records.tune import ArmPart, TriedPart, TuneReport
from reroute_cli.render.tune import tune_blocks
from reroute_cli.reporting.blocks import Say, Tone
from reroute_cli.reporting.score_words import arm_title, plain_number, score
from reroute_cli.reporting.words import short


def part_of(report: TuneReport, name: str) -> Part:
    """The section of a search."""
    said = [block for block in tune_blocks(report) if isinstance(block, Say)]
    run = Run(
        kind="tune",
        name=name,
        headline=next(block.text for block in said if block.tone is Tone.HEADLINE),
        tiles=tuple(_tiles(report)),
        warnings=tuple(block.text for block in said if block.tone is Tone.WARNING),
        charts=tuple(_course(report)),
        tables=(_arms(report), _stages(report)),
        folded=(_tried(report),),
        notes=tuple(block.text for block in said if block.tone is Tone.NOTE),
    )
    return Part(run)


def _action(arm: ArmPart) -> str:
    made = None if arm.made is None else arm.made.first
    return "other" if made is None else made.action


def _role(arm: ArmPart) -> str:
    return role_of(arm.name, _action(arm))


def _title(arm: ArmPart) -> str:
    return arm_title(arm.name, _action(arm), cells.NAME)


def _tiles(report: TuneReport) -> Iterator[Tile]:
    names = ("dense", report.found.arm, report.best_published)
    for name in dict.fromkeys(name for name in names if name is not None):
        arm = report.arm(name)
        part = arm.scores.get(report.asked.score)
        if part is None:
            continue
        note = f"{part.title}, 95% {score(part).partition(' ')[2]}"
        what = "dense" if name == "dense" else "found" if name == report.found.arm else "best published"
        label = what if what == "dense" else f"{what}: {_title(arm)}"
        yield Tile(label, plain_number(part.value), note, _role(arm))
    kept = f"{units.tokens(report.found.average)} of {report.budget.visual}"
    yield Tile("visual tokens per layer", kept, "estimated from the schedule")


def _arms(report: TuneReport) -> Table:
    names = list(report.arms[0].scores)
    columns = [Column("schedule"), Column("published"), Column("tokens/layer", right=True)]
    for name in names:
        title = short(report.arms[0].scores[name].title, 40)
        columns += [
            Column(title, right=True),
            Column("− dense", right=True),
            Column("found − this", right=True),
        ]
    rows = []
    for arm in report.arms:
        average = None if arm.cost is None else arm.cost.average_visual
        row = [
            cells.name(_title(arm), _role(arm)),
            Cell("yes" if arm.published else ""),
            cells.tokens(average),
        ]
        for name in names:
            row += [cells.scored(arm.scores.get(name)), cells.changed(arm.to_dense.get(name))]
            row.append(cells.changed(arm.to_found.get(name)))
        rows.append(tuple(row))
    return cells.table("On the half of the pictures that the search has not seen", columns, rows)


def _stages(report: TuneReport) -> Table:
    columns = [
        Column("stage"),
        *(Column(text, right=True) for text in ("layer", "keep ratio", "kept", "ranked by layer")),
    ]
    rows = [
        (
            Cell(stage.where),
            cells.count(stage.layer),
            Cell(f"{stage.keep_ratio:.4f}", stage.keep_ratio),
            cells.count(stage.kept),
            cells.count(stage.scored_by),
        )
        for stage in report.found.stages
    ]
    return cells.table(f"What was found: {short(report.found.arm, cells.NAME)}", columns, rows)


def _course(report: TuneReport) -> Iterator[Chart]:
    """Every schedule that was tried; the best of many looks better here than it is."""
    tried = [one for one in report.course.tried if one.value is not None]
    if not tried:
        return
    title = (
        report.arms[0].scores[report.asked.score].title
        if report.asked.score in report.arms[0].scores
        else "score"
    )
    yield Chart(
        title="The search, on its own half of the pictures",
        label="Score of every schedule that was tried against its visual tokens per layer",
        figure=charts.scatter([_dot(one) for one in tried], "visual tokens/layer", short(title, 40)),
        data=_tried(report),
        note="no result: the best of many looks better here than it is; larger dots stand on more questions",
        span="full",
    )


def _dot(one: TriedPart) -> charts.Dot:
    assert one.value is not None
    text = f"{one.method} {one.action}, {one.stages}: {plain_number(one.value)} on {one.questions} questions"
    return charts.Dot(one.action, one.average, one.value, one.questions, text)


def _tried(report: TuneReport) -> Table:
    columns = [
        Column("schedule"),
        Column("stages"),
        *(Column(text, right=True) for text in ("tokens/layer", "questions", "score")),
    ]
    rows = [
        (
            cells.name(f"{one.method} {one.action}", role_of(None, one.action)),
            cells.text(one.stages, 120),
            cells.tokens(one.average),
            cells.count(one.questions),
            Cell("broken" if one.value is None else plain_number(one.value), one.value),
        )
        for one in report.course.tried
    ]
    return cells.table("Every schedule that was tried, on the searched half", columns, rows)
