"""A sweep, `reroute.sweep/1`: scores against costs, the fronts, and rerouting against pruning.

Knows the record; the sentences are the terminal's own.
"""

from __future__ import annotations

from collections.abc import Iterator

from reroute_cli.console import units
from reroute_cli.metrics import METRICS
from reroute_cli.pages import cells, charts
from reroute_cli.pages.pieces import Cell, Chart, Column, Part, Run, Table, Tile, role_of
from reroute_cli.pages.runs.answers import Judge, arm_of
from reroute_cli.records.answer import AnswerRecord
from reroute_cli.records.sweep import RIGHT, WRONG, FrontPart, ScoreName, SweepArm, SweepReport
from reroute_cli.reporting.score_words import p_value, plain_number, score, signed_number
from reroute_cli.reporting.words import number, short
from reroute_cli.sweeping.sentences import COSTS, headline, notes, warnings

_COSTS = ("prefill_flops", "kv_prefill", "kv_end", "ttft", "e2e")
_SHORT = {"prefill_flops": "prefill", "kv_prefill": "KV prefill", "kv_end": "KV end"}


def part_of(report: SweepReport, name: str) -> Part:
    """The section of a sweep; its answers are in the file of records."""
    fronts = {front.score: front for front in report.fronts}
    run = Run(
        kind="sweep",
        name=name,
        headline=headline(report),
        tiles=tuple(_tiles(report)),
        warnings=tuple(warnings(report)),
        charts=tuple(_plots(report, fronts)),
        tables=(_arms(report, fronts), *_pairs(report)),
        folded=tuple(_others(report)),
        notes=tuple(notes(report)),
    )
    return Part(run)


def label_of(name: str, action: str | None) -> str:
    """'pdrop-reroute 0.889' -> 'pdrop reroute 0.889'."""
    return short(name.replace(f"-{action}", f" {action}", 1) if action else name, cells.NAME)


def _role(arm: SweepArm) -> str:
    return role_of(arm.name, arm.action or "other")


def _tiles(report: SweepReport) -> Iterator[Tile]:
    """The dense score, and the best of rerouting and of pruning at the largest reduction they share."""
    for name in report.shown[:1]:
        dense = report.arms[0].scores.get(name.name)
        if dense is not None:
            note = f"95% {score(dense).partition(' ')[2]}, n\u00a0=\u00a0{dense.n}"
            yield Tile(f"{name.title}, dense", plain_number(dense.value), note, "dense")
        pairs = [pair for pair in report.pairs if name.name in pair.scores]
        if not pairs:
            continue
        pair = max(pairs, key=lambda pair: (pair.ratio or 0, pair.scores[name.name].value))
        for action, arm in (("prune", pair.prune), ("reroute", pair.reroute)):
            found = report.arm(arm).scores[name.name]
            note = f"95% {score(found).partition(' ')[2]}"
            yield Tile(f"{name.title}, {label_of(arm, action)}", plain_number(found.value), note, action)
    yield Tile(
        "questions answered by every arm", f"{report.counts.compared:,}", f"of {report.counts.items:,}"
    )


def _arms(report: SweepReport, fronts: dict[str, FrontPart]) -> Table:
    """A row for each arm that was asked."""
    costs = [key for key in _COSTS if any(key in arm.costs for arm in report.asked[1:])]
    columns = [Column("schedule"), Column("ratio", right=True, help="reduction ratio asked for")]
    columns.append(Column("tokens/layer", right=True, help=METRICS["visual_tokens"].means))
    for name in report.shown:
        columns.append(Column(short(name.title, 40), right=True, help="with its 95% interval"))
        columns.append(Column("− dense", right=True, help="paired difference with its 95% interval"))
        columns.append(Column("front", help="on the Pareto front of this score and cost"))
    columns += [Column(_SHORT.get(key, METRICS[key].label), right=True, help="over dense's") for key in costs]
    rows = [_row(report, arm, fronts, costs) for arm in report.asked]
    return cells.table("Every schedule: scores and costs", columns, rows)


def _row(
    report: SweepReport, arm: SweepArm, fronts: dict[str, FrontPart], costs: list[str]
) -> tuple[Cell, ...]:
    row = [
        cells.name(label_of(arm.name, arm.action), _role(arm)),
        _amount(arm),
        cells.tokens(arm.average_visual),
    ]
    for name in report.shown:
        front = fronts.get(name.name)
        row += [cells.scored(arm.scores.get(name.name)), cells.changed(arm.to_dense.get(name.name))]
        row.append(_place(arm, front))
    return (*row, *(_cost(arm, key) for key in costs))


def _place(arm: SweepArm, front: FrontPart | None) -> Cell:
    """• on the front, ~ beaten by an arm of it, but not clearly."""
    if front is None:
        return Cell("")
    if arm.name in front.arms:
        return Cell("• on it", 0.0, tone="good")
    near = any(part.arm == arm.name and not part.score.is_real for part in front.beaten)
    return Cell("~ near it", 1.0, tone="faint") if near else Cell("", 2.0)


def _amount(arm: SweepArm) -> Cell:
    if arm.ratio is not None:
        return Cell(f"{arm.ratio:g}", arm.ratio)
    return Cell(units.UNKNOWN) if arm.budget is None else Cell(f"{arm.budget:g} tokens", arm.budget)


def _cost(arm: SweepArm, key: str) -> Cell:
    """Over dense's with the interval below; dense's own in its unit."""
    part = arm.costs.get(key)
    if part is None:
        return Cell(units.UNKNOWN)
    if part.ratio is None:
        return Cell("1.00×" if arm.name == "dense" else units.UNKNOWN, 1.0, note=number(key, part.value))
    interval = "" if part.low is None or part.low == part.high else f"[{part.low:.2f}, {part.high:.2f}]"
    return Cell(f"{part.ratio:.2f}×", part.ratio, note=interval)


def _pairs(report: SweepReport) -> Iterator[Table]:
    """Rerouting minus pruning, method by method at the same amount."""
    if not report.pairs:
        return
    columns = [Column("method"), Column("ratio", right=True)]
    for name in report.shown:
        columns.append(Column(f"{short(name.title, 40)}: reroute − prune", right=True))
        columns += [Column("p", right=True, help="McNemar's exact test")] if name.share else []
    rows = []
    for pair in report.pairs:
        amount = pair.ratio if pair.ratio is not None else pair.budget
        row = [cells.name(pair.place), Cell(units.UNKNOWN if amount is None else f"{amount:g}", amount)]
        for name in report.shown:
            part = pair.scores.get(name.name)
            row.append(cells.changed(part))
            p = None if part is None else part.mcnemar_p
            row += [Cell(units.UNKNOWN if p is None else p_value(p), p)] if name.share else []
        rows.append(tuple(row))
    yield cells.table("Rerouting minus pruning, the same method at the same amount", columns, rows)


def _others(report: SweepReport) -> Iterator[Table]:
    """Every score and the arms that the model can't reach."""
    rows = [
        (
            cells.name(label_of(arm.name, arm.action), _role(arm)),
            cells.text(name.title, 40),
            *_scores(arm, name),
        )
        for arm in report.asked
        for name in report.scores
    ]
    columns = [Column("schedule"), Column("score")]
    columns += [Column(text, right=True) for text in ("value", "n", "pictures", "− dense")]
    yield cells.table("Every score", columns, rows)
    refused = [arm for arm in report.arms if arm.refused is not None]
    if refused:
        told = [
            (cells.name(label_of(arm.name, arm.action)), cells.text(arm.refused or "", 300))
            for arm in refused
        ]
        yield cells.table("Not asked", [Column("schedule"), Column("why")], told)


def _scores(arm: SweepArm, name: ScoreName) -> tuple[Cell, ...]:
    part = arm.scores.get(name.name)
    if part is None:
        return (Cell(units.UNKNOWN),) * 4
    difference = cells.changed(arm.to_dense.get(name.name))
    return cells.scored(part), cells.count(part.n), cells.count(part.pictures), difference


def _plots(report: SweepReport, fronts: dict[str, FrontPart]) -> Iterator[Chart]:
    """A plot for each shown score, against the cost of its front."""
    for name in report.shown:
        front = fronts.get(name.name)
        if front is None or not any(front.cost in arm.costs for arm in report.asked):
            continue
        series = list(_series(report, name, front.cost))
        by_name = {point.name: point for one in series for point in one.points}
        beaten = [by_name[arm] for arm in front.arms if arm in by_name]
        x = _axis(front.cost)
        yield Chart(
            title=f"{short(name.title, 60)} against {COSTS.get(front.cost, front.cost)}",
            label=f"{short(name.title, 60)} of every schedule against its cost, with 95% intervals; better: "
            "up, to the left",
            figure=charts.pareto(series, beaten, x, short(name.title, 40)),
            data=_points(report, name, series, x, set(front.arms)),
            note="up and to the left is better; bars are 95% intervals; the grey line is the Pareto front",
            span="full",
        )


def _axis(cost: str) -> str:
    label = COSTS.get(cost, METRICS[cost].label if cost in METRICS else "cost")
    return label if cost == "visual_tokens" else f"{label}, × dense"


def _series(report: SweepReport, name: ScoreName, cost: str) -> Iterator[charts.Series]:
    places = list(dict.fromkeys(arm.place for arm in report.asked))
    groups: dict[tuple[str, str | None], list[SweepArm]] = {}
    for arm in report.asked:
        if name.name in arm.scores and _x(arm, cost) is not None:
            groups.setdefault((arm.place, arm.action), []).append(arm)
    for (place, action), arms in groups.items():
        points = sorted((_point(arm, name, cost) for arm in arms), key=lambda point: (point.x, point.name))
        said = place if action is None else f"{place} {action}"
        yield charts.Series(said, _role(arms[0]), places.index(place), tuple(points))


def _x(arm: SweepArm, cost: str) -> float | None:
    part = arm.costs.get(cost)
    if part is None or part.unit == "tokens":
        return None if part is None else part.value
    return 1.0 if arm.ratio is None and arm.budget is None else part.ratio


def _point(arm: SweepArm, name: ScoreName, cost: str) -> charts.Point:
    part, x = arm.scores[name.name], _x(arm, cost)
    assert x is not None
    said = f"{label_of(arm.name, arm.action)}: {score(part)} at {x:.3g}"
    difference = arm.to_dense.get(name.name)
    if difference is not None:
        said += f", {signed_number(difference.value)} to dense"
    return charts.Point(arm.name, x, part.value, part.low, part.high, said)


def _points(
    report: SweepReport, name: ScoreName, series: list[charts.Series], x: str, front: set[str]
) -> Table:
    columns = [
        Column("schedule"),
        Column(x, right=True),
        Column(short(name.title, 40), right=True),
        Column("front"),
    ]
    rows = []
    for one in series:
        for point in one.points:
            arm = report.arm(point.name)
            on = "on it" if point.name in front else ""
            cost = Cell(f"{point.x:.3g}", point.x)
            rows.append(
                (
                    cells.name(label_of(arm.name, arm.action), one.role),
                    cost,
                    cells.scored(arm.scores[name.name]),
                    Cell(on),
                )
            )
    return cells.table(f"{short(name.title, 60)} against {x}", columns, rows)


def judge_of(reports: list[SweepReport]) -> Judge:
    """Names the arm of an answer's record, and whether it is right, by the first sweep that asked it."""
    known = {}
    for report in reversed(reports):
        index = {key: number for number, key in enumerate(report.items)}
        for arm in report.asked:
            first = None if arm.made is None else arm.made.first
            if first is not None:
                known[first.digest] = (arm, index)

    def judge(record: AnswerRecord) -> tuple[str, bool | None]:
        arm, index = known.get(record.schedule.digest, (None, {}))
        if arm is None or arm.right is None or record.id not in index:
            return arm_of(record)
        mark = arm.right[index[record.id]]
        return label_of(arm.name, arm.action), {RIGHT: True, WRONG: False}.get(mark)

    return judge
