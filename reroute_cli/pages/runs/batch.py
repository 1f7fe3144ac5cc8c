"""A batch: its summary, `reroute.batch/1`, and files of answers, `reroute.answer/1` line by line.

Knows the records; not how a page is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean, quantiles

from reroute_cli import units
from reroute_cli.pages import cells, charts
from reroute_cli.pages.inputs import Answers
from reroute_cli.pages.pieces import Cell, Chart, Column, Item, Part, Run, Said, Table, Tile, role_of
from reroute_cli.records.answer import AnswerRecord, FailedAnswer
from reroute_cli.records.batch import BatchSummary, SharePart, SpreadPart
from reroute_cli.reporting.score_words import count
from reroute_cli.reporting.words import short

Judge = Callable[
    [AnswerRecord], tuple[str, bool | None]
]  # the arm that a record is of, and whether it is right
_TIMES: dict[str, Callable[[AnswerRecord], float]] = {
    "TTFT": lambda record: record.latency.ttft_s,
    "end to end": lambda record: record.latency.e2e_s,
}


def summary_part(report: BatchSummary, name: str) -> Part:
    """The section of a batch's summary."""
    counts = report.counts
    failed = f", {count(counts.errors, 'error')}" if counts.errors else ""
    warnings = [] if report.first_error is None else [f"first error: {short(report.first_error, cells.TEXT)}"]
    if report.model.weights == "random":
        warnings.append("random weights: the costs are real, the answers mean nothing")
    run = Run(
        kind="batch",
        name=name,
        headline=f"{_schedule(report)}: {count(counts.items, 'item')}, {counts.answered} answered{failed}",
        tiles=tuple(_tiles(report)),
        warnings=tuple(warnings),
        tables=(_numbers(report),),
        notes=(_who(report),),
    )
    return Part(run)


def _schedule(report: BatchSummary) -> str:
    choice = report.choice
    if choice.method in (None, "none") and choice.profile is None:
        return "dense"
    amount = "" if choice.ratio is None else f" at {choice.ratio:g}"
    named = choice.profile or " ".join(filter(None, (choice.method, choice.action)))
    return short(named, cells.NAME) + amount


def _tiles(report: BatchSummary) -> Iterator[Tile]:
    found, means = report.accuracy, report.means
    if found is not None and found.words is not None:
        yield _share("answers right", found.words)
    if found is not None and found.boxes is not None:
        yield _share("box Acc@0.5", found.boxes.acc_at_05)
    if means is not None:
        ratio = units.ratio(means.kv_bytes, means.dense_kv_bytes)
        yield Tile("KV cache of dense", ratio, f"{units.size(means.kv_bytes)}, {means.kv_source}")
        prefill = units.ratio(means.prefill_flops, means.dense_prefill_flops)
        yield Tile("prefill FLOPs of dense", prefill, means.flops_source)


def _share(label: str, part: SharePart) -> Tile:
    return Tile(label, f"{part.value:.2f}", f"95% [{part.low:.2f}, {part.high:.2f}], n = {part.n}")


def _numbers(report: BatchSummary) -> Table:
    means, latency, rate = report.means, report.latency, report.throughput
    rows: list[tuple[Cell, ...]] = []
    if means is not None:
        rows += [
            (
                Cell("visual tokens/layer"),
                cells.tokens(means.average_visual),
                Cell(f"of {units.tokens(means.visual_tokens)}"),
            ),
            (Cell("prompt tokens"), cells.tokens(means.prompt_tokens), Cell("mean")),
            (Cell("new tokens"), cells.tokens(means.new_tokens), Cell("mean")),
            (
                Cell("FLOPs"),
                Cell(units.flops(means.flops), means.flops),
                Cell(f"mean of an answer, {means.flops_source}"),
            ),
            (
                Cell("KV cache"),
                Cell(units.size(means.kv_bytes), means.kv_bytes),
                Cell(f"mean at the end, {means.kv_source}"),
            ),
        ]
    if latency is not None:
        spreads = (
            ("TTFT", latency.ttft_s),
            ("TPOT", latency.tpot_s),
            ("end to end", latency.e2e_s),
            ("preprocess", latency.preprocess_s),
        )
        rows += [_spread(label, spread) for label, spread in spreads if spread is not None]
    if rate is not None:
        rows.append(
            (
                Cell("throughput"),
                Cell(f"{rate.samples_per_s:.2f} items/s"),
                Cell(f"{rate.output_tokens_per_s:.1f} new tokens/s"),
            )
        )
    columns = (Column("what"), Column("value", right=True), Column("how"))
    return cells.table("Over every answer", columns, rows)


def _spread(label: str, spread: SpreadPart) -> tuple[Cell, ...]:
    how = f"median, measured of the pass; p90 {units.seconds(spread.p90)}"
    return Cell(label), Cell(units.seconds(spread.p50), spread.p50), Cell(how)


def _who(report: BatchSummary) -> str:
    model = report.model
    how = f"{model.device} {model.dtype} {model.attention}"
    return f"{short(model.id, 60)} · {short(model.family, 30)} · {how} · batch {report.choice.batch_size}"


def arm_of(record: AnswerRecord) -> tuple[str, None]:
    """'dense', 'pdrop reroute 0.889', a profile's name."""
    made = record.schedule
    if made.method in (None, "none") and made.profile is None:
        return "dense", None
    amount = "" if made.ratio is None else f" {made.ratio:g}"
    named = made.profile or f"{made.method} {made.action}"
    return short(named + amount, cells.NAME), None


def answers_part(answers: Answers, name: str, judge: Judge = arm_of) -> Part:
    """The section of a file of answers, and its items. judge: names the arm of a record."""
    arms: dict[str, list[AnswerRecord]] = {}
    for record in answers.records:
        if isinstance(record, AnswerRecord):
            arms.setdefault(judge(record)[0], []).append(record)
    ordered = dict(sorted(arms.items(), key=lambda pair: pair[0] != "dense"))
    failed = [record for record in answers.records if isinstance(record, FailedAnswer)]
    ids = {record.id for record in answers.records}
    said = f"{count(sum(map(len, ordered.values())), 'answer')} to {count(len(ids), 'item')}"
    run = Run(
        kind="answers",
        name=name,
        headline=f"{said} under {count(len(ordered), 'schedule')}"
        + (f", {count(len(failed), 'error')}" if failed else ""),
        warnings=tuple(_warnings(answers, failed)),
        charts=tuple(_charts(ordered)),
        tables=(_arms(ordered),) if ordered else (),
        notes=(
            "times are of the pass that answered, one run without warm-up: measure with reroute profile",
            *answers.notes,
        ),
    )
    return Part(run, tuple(_items(answers, name, judge)))


def _warnings(answers: Answers, failed: Sequence[FailedAnswer]) -> Iterator[str]:
    if failed:
        yield f"first error: {short(failed[0].id, cells.NAME)}: {short(failed[0].error, 300)}"
    if any(record.model.weights == "random" for record in answers.records):
        yield "random weights: the costs are real, the answers mean nothing"
    yield from answers.dropped


def _role(records: Sequence[AnswerRecord]) -> str:
    made = records[0].schedule
    return role_of("dense" if made.method == "none" else None, made.action)


def _arms(arms: dict[str, list[AnswerRecord]]) -> Table:
    columns = [Column("schedule")]
    names = ("answers", "tokens/layer", "KV cache", "× dense", "prefill", "TTFT", "end to end")
    columns += [Column(text, right=True) for text in names]
    rows = []
    for name, records in arms.items():
        kv, dense = (
            fmean(getattr(record.kv_cache, key) for record in records) for key in ("bytes", "dense_bytes")
        )
        ttft, e2e = (_median([take(record) for record in records]) for take in _TIMES.values())
        rows.append(
            (
                cells.name(name, _role(records)),
                cells.count(len(records)),
                cells.tokens(fmean(record.tokens.average_visual for record in records)),
                Cell(units.size(kv), kv, note=records[0].kv_cache.source),
                Cell(units.ratio(kv, dense), kv / dense if dense else None),
                _prefill(records),
                Cell(units.seconds(ttft), ttft, note="median"),
                Cell(units.seconds(e2e), e2e, note="median"),
            )
        )
    return cells.table("Every schedule: means over answers", columns, rows)


def _prefill(records: Sequence[AnswerRecord]) -> Cell:
    known = [record.flops.prefill for record in records if record.flops.prefill is not None]
    mean = fmean(known) if known else None
    return Cell(units.flops(mean), mean, note=records[0].flops.source if known else "")


def _median(values: Sequence[float]) -> float:
    return quantiles(values, n=2)[0] if len(values) > 1 else values[0]


def _charts(arms: dict[str, list[AnswerRecord]]) -> Iterator[Chart]:
    if not arms:
        return
    for what, take in _TIMES.items():
        found = {name: [take(record) for record in records] for name, records in arms.items()}
        step, unit = cells.scale_of("s", max(map(max, found.values())))
        lines = [
            charts.Line(name, _role(arms[name]), tuple(value / step for value in values))
            for name, values in found.items()
        ]
        columns = [Column("schedule"), *(Column(text, right=True) for text in ("n", "min", "median", "max"))]
        rows = [
            (
                cells.name(name, _role(arms[name])),
                cells.count(len(values)),
                *(Cell(units.seconds(value), value) for value in (min(values), _median(values), max(values))),
            )
            for name, values in found.items()
        ]
        label = f"{what} of every schedule as box plots, in {unit}"
        yield Chart(
            what,
            label,
            charts.boxes(lines, unit),
            cells.table(f"{what}, of the pass", columns, rows),
            "measured, of the pass that answered",
        )
    stored = {name: _stored(records) for name, records in arms.items()}
    lines = [
        charts.Line(name, _role(arms[name]), tuple(values), kind)
        for kind, (name, values) in enumerate(stored.items())
    ]
    columns = [Column("layer", right=True), *(Column(name, right=True) for name in stored)]
    depth = max(map(len, stored.values()))
    rows = [
        (
            cells.count(layer),
            *(cells.tokens(values[layer] if layer < len(values) else None) for values in stored.values()),
        )
        for layer in range(depth)
    ]
    label = "Tokens stored in the KV cache of each decoder layer at the end of the answer, means over answers"
    yield Chart(
        "KV cache per layer, at the end",
        label,
        charts.steps(lines, "stored tokens"),
        cells.table("Stored tokens per layer", columns, rows),
        "mean over answers, text included",
        "full",
    )


def _stored(records: Sequence[AnswerRecord]) -> list[float]:
    """Stored tokens of each layer, mean over the answers of the first one's depth."""
    depth = len(records[0].kv_cache.per_layer_tokens)
    same = [
        record.kv_cache.per_layer_tokens
        for record in records
        if len(record.kv_cache.per_layer_tokens) == depth
    ]
    return [fmean(column) for column in zip(*same, strict=True)]


def _items(answers: Answers, source: str, judge: Judge) -> Iterator[Item]:
    """One item for each picture and question, with the answers of all its schedules, the dense one first."""
    grouped: dict[tuple[str, str, str], list[Said]] = {}
    for record in answers.records:
        grouped.setdefault((record.id, record.image, record.question), []).append(_said(record, judge))
    for (key, image, question), said in grouped.items():
        yield Item(key, image, question, source, tuple(sorted(said, key=lambda one: one.role != "dense")))


def _said(record: AnswerRecord | FailedAnswer, judge: Judge) -> Said:
    if isinstance(record, FailedAnswer):
        return Said("error", "other", "", error=record.error)
    arm, right = judge(record)
    made = record.schedule
    pair = f"{(made.method or '').partition('@')[0]} {made.ratio}"
    return Said(arm, _role([record]), record.answer, pair, right, tuple(record.boxes or ()))
