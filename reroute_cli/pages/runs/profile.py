"""A measured run, `reroute.report/1`: costs and times of every schedule beside the dense model's.

Knows the record; the sentences are the terminal's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reroute_cli.console import units
from reroute_cli.metrics import METRICS, Level
from reroute_cli.pages import cells, charts
from reroute_cli.pages.pieces import Cell, Chart, Column, Item, Part, Run, Said, Table, Tile, role_of
from reroute_cli.records.report import ArmPart, Report
from reroute_cli.reporting.sentences import headline, notes, warnings
from reroute_cli.reporting.words import amount, equal_answers, quotient, title, typical

_TIMES = ("ttft", "tpot", "e2e")
_COSTS = ("visual_tokens", "prefill_flops", "kv_prefill", "kv_end", "ttft", "tpot", "e2e")
_RATIOS = ("prefill_flops", "kv_prefill", "ttft", "e2e")
_SHORT = {"prefill_flops": "prefill", "kv_prefill": "KV prefill", "kv_end": "KV end", "e2e": "end to end"}
_NAME = "profile"


def part_of(report: Report, name: str) -> Part:
    """The section of a measured run, and its answers."""
    kinds = _kinds(report.arms)
    run = Run(
        kind=_NAME,
        name=name,
        headline=headline(report),
        tiles=tuple(_tiles(report)),
        warnings=tuple(warnings(report, verbose=False)),
        charts=(*_times(report), *_layers(report, kinds)),
        tables=(_arms(report),),
        folded=(_metrics(report),),
        notes=tuple(notes(report)),
    )
    return Part(run, tuple(_items(report, name)))


def _kinds(arms: Sequence[ArmPart]) -> dict[str, int]:
    """A number for each method, so that its arms look alike."""
    methods = list(dict.fromkeys(arm.method or arm.name for arm in arms))
    return {arm.name: methods.index(arm.method or arm.name) for arm in arms}


def _role(arm: ArmPart) -> str:
    return role_of(arm.name, arm.action or "other")


def _tiles(report: Report) -> Iterator[Tile]:
    """The one routed arm's ratios; of several, the arm whose first token comes soonest."""
    routed = [arm for arm in report.arms[1:] if "ttft" in arm.ratios]
    if not routed:
        for key in ("ttft", "e2e"):
            if key in report.dense.metrics:
                yield Tile(
                    f"{METRICS[key].label}, dense", typical(report.dense, key), _how(report, key), "dense"
                )
        return
    arm = min(routed, key=lambda arm: arm.ratios["ttft"].value)
    who = f"{title(arm)}, " if len(routed) > 1 else ""
    for key in _RATIOS:
        if key in arm.ratios:
            whole, _, interval = quotient(arm.ratios[key]).partition(" ")
            label = f"{METRICS[key].label} of dense"
            how = f"95% {interval}" if interval else _source(arm, key)
            yield Tile(label, whole, who + how, _role(arm))
    yield Tile("answers equal to dense", equal_answers(arm), f"{title(arm)}{amount(arm)}", _role(arm))


def _source(arm: ArmPart, key: str) -> str:
    return arm.metrics[key].source if key in arm.metrics else ""


def _how(report: Report, key: str) -> str:
    series = report.dense.metrics[key]
    return f"{series.source}, n = {series.n}"


def _arms(report: Report) -> Table:
    """A row for each arm; ratios to dense beside what they are of."""
    known = [key for key in _COSTS if any(key in arm.metrics for arm in report.arms)]
    columns = [Column("schedule"), Column("answers equal", right=True)]
    for key in known:
        columns.append(Column(_SHORT.get(key, METRICS[key].label), right=True, help=METRICS[key].means))
        if key in _RATIOS or key == "tpot":
            columns.append(Column("× dense", right=True, help=f"{METRICS[key].label} over dense's"))
    rows = [_arm_row(arm, known) for arm in report.arms]
    return cells.table("Every schedule: times are medians, all else means over items", columns, rows)


def _arm_row(arm: ArmPart, known: Sequence[str]) -> tuple[Cell, ...]:
    same = sum(item.agrees for item in arm.items)
    row = [cells.name(title(arm), _role(arm)), Cell(equal_answers(arm), same)]
    for key in known:
        row.append(cells.metric(key, arm.metrics.get(key)))
        if key in _RATIOS or key == "tpot":
            row.append(cells.ratio(arm.ratios.get(key)))
    return tuple(row)


def _metrics(report: Report) -> Table:
    """Every metric of every arm with its statistics, and why others are not known."""
    columns = [Column("schedule"), Column("metric"), Column("source")]
    columns += [Column(text, right=True) for text in ("n", "mean", "min", "p50", "p90", "p95", "p99", "max")]
    rows = [row for arm in report.arms for row in _metric_rows(arm)]
    return cells.table("Every metric, as measured", columns, rows)


def _metric_rows(arm: ArmPart) -> Iterator[tuple[Cell, ...]]:
    who = cells.name(title(arm), _role(arm))
    for key in (key for key, metric in METRICS.items() if metric.level is Level.ARM):
        label = Cell(METRICS[key].label)
        if key not in arm.metrics:
            yield who, label, cells.text(f"unknown: {arm.unknown[key]}", 160), *(Cell(units.UNKNOWN),) * 8
            continue
        found = arm.metrics[key]
        numbers = (found.mean, found.min, found.p50, found.p90, found.p95, found.p99, found.max)
        shown = (cells.value(key, number) for number in numbers)
        yield who, label, Cell(found.source), cells.count(found.n), *shown


def _times(report: Report) -> Iterator[Chart]:
    """How every time is spread, over items and rounds."""
    for key in _TIMES:
        arms = [arm for arm in report.arms if key in arm.metrics]
        if not arms:
            continue
        largest = max(arm.metrics[key].max for arm in arms)
        step, unit = cells.scale_of("s", largest)
        lines = [charts.Line(title(arm), _role(arm), _flat(arm, key, step)) for arm in arms]
        yield Chart(
            title=METRICS[key].label,
            label=f"{METRICS[key].label} of every schedule as box plots, in {unit}",
            figure=charts.boxes(lines, unit),
            data=_spread(arms, key),
            note=f"{METRICS[key].means}; {_how(report, key)}" if key in report.dense.metrics else "",
            span="third",
        )


def _flat(arm: ArmPart, key: str, step: float) -> tuple[float, ...]:
    return tuple(value / step for values in arm.metrics[key].values for value in values)


def _spread(arms: Sequence[ArmPart], key: str) -> Table:
    columns = [
        Column("schedule"),
        *(Column(text, right=True) for text in ("n", "min", "p50", "p90", "p99", "max")),
    ]
    rows = []
    for arm in arms:
        found = arm.metrics[key]
        numbers = (found.min, found.p50, found.p90, found.p99, found.max)
        shown = (cells.value(key, number) for number in numbers)
        rows.append((cells.name(title(arm), _role(arm)), cells.count(found.n), *shown))
    return cells.table(f"{METRICS[key].label}, every value", columns, rows)


def _layers(report: Report, kinds: dict[str, int]) -> Iterator[Chart]:
    """Visual tokens and KV bytes of each decoder layer, means over items."""
    counted = {arm.name: _means([item.visual_per_layer for item in arm.items]) for arm in report.arms}
    held = {arm.name: _means([item.kv_prefill.per_layer_bytes for item in arm.items]) for arm in report.arms}
    step, unit = cells.scale_of("bytes", max((max(values, default=0) for values in held.values()), default=0))
    yield _layer_chart(report, kinds, counted, "Visual tokens per layer", "visual tokens", 1)
    yield _layer_chart(report, kinds, held, "KV cache per layer, after prefill", unit, step)


def _layer_chart(
    report: Report, kinds: dict[str, int], found: dict[str, list[float]], what: str, unit: str, step: float
) -> Chart:
    lines = [
        charts.Line(title(arm), _role(arm), tuple(value / step for value in found[arm.name]), kinds[arm.name])
        for arm in report.arms
    ]
    names = [Column("layer", right=True), *(Column(title(arm), right=True) for arm in report.arms)]
    depth = max(len(line.values) for line in lines)
    rows = [(cells.count(layer), *(_at(line.values, layer) for line in lines)) for layer in range(depth)]
    return Chart(
        title=what,
        label=f"{what} of every schedule, from the first decoder layer to the last",
        figure=charts.steps(lines, unit),
        data=cells.table(f"{what} ({unit})", names, rows),
        note=f"counted, mean over {len(report.workload.items)} items",
    )


def _at(values: Sequence[float], layer: int) -> Cell:
    return cells.tokens(values[layer]) if layer < len(values) else Cell(units.UNKNOWN)


def _means(rows: Sequence[Sequence[float]]) -> list[float]:
    """Means over items, layer by layer; items of other depth than the first are left out."""
    depth = len(rows[0])
    same = [row for row in rows if len(row) == depth]
    return [sum(column) / len(same) for column in zip(*same, strict=True)]


def _items(report: Report, source: str) -> Iterator[Item]:
    for index, asked in enumerate(report.workload.items):
        said = tuple(
            Said(title(arm), _role(arm), arm.items[index].answer, pair=arm.method or "")
            for arm in report.arms
        )
        image = asked.images[0] if asked.images else ""
        yield Item(asked.id, image, asked.question, source, said)
