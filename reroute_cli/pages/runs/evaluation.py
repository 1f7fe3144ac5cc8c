"""An evaluation, `reroute.eval/1`: how good answers are under each schedule, and every answer.

Knows the record; the sentences are the terminal's own.
"""

from __future__ import annotations

from collections.abc import Iterator

from reroute_cli.console import units
from reroute_cli.pages import cells
from reroute_cli.pages.pieces import Cell, Column, Item, Part, Run, Said, Table, Tile, role_of
from reroute_cli.records.evaluation import Evaluation, EvaluationArm, EvaluationItem, SaidPart, TruthPart
from reroute_cli.records.score import ScoresPart
from reroute_cli.reporting.evaluation import headline, notes, warnings
from reroute_cli.reporting.score_words import amount_of, arm_title, p_value, plain_number, score
from reroute_cli.reporting.words import short

_TRUTH = 300  # characters of what is true


def part_of(report: Evaluation, name: str) -> Part:
    """The section of an evaluation, and its questions with every arm's answer."""
    run = Run(
        kind="eval",
        name=name,
        headline=headline(report),
        tiles=tuple(_tiles(report)),
        warnings=tuple(warnings(report)),
        tables=(_arms(report), *_groups(report)),
        folded=(_scores(report),),
        notes=tuple(notes(report)),
    )
    return Part(run, tuple(_item(report, item, name) for item in report.items))


def _title(arm: EvaluationArm) -> str:
    return arm_title(arm.name, arm.choice.action, cells.NAME)


def _role(arm: EvaluationArm) -> str:
    return role_of(arm.name, arm.choice.action or "other")


def _tiles(report: Evaluation) -> Iterator[Tile]:
    """The first headline score of the dense model and of every schedule, at most five."""
    for name in report.headlines[:1]:
        for arm in report.arms[:5]:
            part = arm.overall.scores.get(name)
            if part is not None:
                note = f"95% {score(part).partition(' ')[2]}, n\u00a0=\u00a0{part.n}"
                yield Tile(f"{part.title}, {_title(arm)}", plain_number(part.value), note, _role(arm))


def _arms(report: Evaluation) -> Table:
    titles = {name: report.dense.overall.scores[name].title for name in report.headlines}
    columns = [Column("schedule"), Column("tokens/layer", right=True)]
    for title in titles.values():
        columns += [
            Column(short(title, 40), right=True, help="with its 95% interval"),
            Column("− dense", right=True, help="paired difference with its 95% interval"),
            Column("− prune", right=True, help="of a rerouted arm: minus the same method, pruning"),
        ]
    columns += [
        Column("prefill", right=True, help="FLOPs over dense's"),
        Column("KV end", right=True, help="over dense's"),
    ]
    rows = [_row(report, arm) for arm in report.arms]
    amount = amount_of(report.arms[-1].choice)
    return cells.table(f"Every schedule{amount}: scores and costs", columns, rows)


def _row(report: Evaluation, arm: EvaluationArm) -> tuple[Cell, ...]:
    found, cost = arm.overall, arm.cost
    row = [cells.name(_title(arm), _role(arm)), cells.tokens(None if cost is None else cost.average_visual)]
    for name in report.headlines:
        row += [cells.scored(found.scores.get(name)), cells.changed(found.to_dense.get(name))]
        row.append(cells.changed(found.to_prune.get(name)))
    return (
        *row,
        _times(None if cost is None else cost.prefill_ratio),
        _times(None if cost is None else cost.kv_ratio),
    )


def _times(ratio: float | None) -> Cell:
    return Cell(units.UNKNOWN) if ratio is None else Cell(f"{ratio:.2f}×", ratio)


def _groups(report: Evaluation) -> Iterator[Table]:
    """Scores by kind of question: a row for each kind, a column for each arm."""
    groups = list(report.dense.groups)
    if not groups:
        return
    columns = [Column("kind of question"), Column("score"), Column("n", right=True)]
    columns += [Column(_title(arm), right=True) for arm in report.arms]
    rows = []
    for group in groups:
        for name in report.headlines:
            parts = [_of_group(arm, group).scores.get(name) for arm in report.arms]
            if parts[0] is not None:
                shown = (cells.scored(part) for part in parts)
                rows.append(
                    (cells.name(group), cells.text(parts[0].title, 40), cells.count(parts[0].n), *shown)
                )
    if rows:
        yield cells.table("By kind of question", columns, rows)


def _of_group(arm: EvaluationArm, group: str) -> ScoresPart:
    return arm.groups.get(group) or ScoresPart(scores={}, to_dense={}, to_prune={})


def _scores(report: Evaluation) -> Table:
    columns = [Column("schedule"), Column("score")]
    columns += [
        Column(text, right=True) for text in ("value", "n", "pictures", "− dense", "p", "− prune", "p")
    ]
    rows = []
    for arm in report.arms:
        for key, part in arm.overall.scores.items():
            dense, prune = arm.overall.to_dense.get(key), arm.overall.to_prune.get(key)
            rows.append(
                (
                    cells.name(_title(arm), _role(arm)),
                    cells.text(part.title, 40),
                    cells.scored(part),
                    cells.count(part.n),
                    cells.count(part.pictures),
                    cells.changed(dense),
                    _p(None if dense is None else dense.mcnemar_p),
                    cells.changed(prune),
                    _p(None if prune is None else prune.mcnemar_p),
                )
            )
    return cells.table("Every score; p is McNemar's exact test", columns, rows)


def _p(value: float | None) -> Cell:
    return Cell(units.UNKNOWN) if value is None else Cell(p_value(value), value)


def _item(report: Evaluation, item: EvaluationItem, source: str) -> Item:
    said = tuple(_said(arm, item.said[arm.name]) for arm in report.arms)
    boxes = () if item.truth is None or item.truth.box is None else (item.truth.box,)
    group = short(item.group, cells.NAME)
    return Item(item.id, item.image, item.question, source, said, group, _truth(item.truth), boxes)


def _said(arm: EvaluationArm, part: SaidPart) -> Said:
    choice = arm.choice
    pair = f"{(choice.method or '').partition('@')[0]} {choice.ratio} {choice.budget}"
    note = "" if part.iou is None else f"IoU {part.iou:.2f}"
    boxes = () if part.box is None else (part.box,)
    return Said(_title(arm), _role(arm), part.answer, pair, part.right, boxes, note, part.error or "")


def _truth(truth: TruthPart | None) -> str:
    if truth is None:
        return ""
    return short(" or ".join(truth.answers), _TRUTH) or ("a box" if truth.box is not None else "")
