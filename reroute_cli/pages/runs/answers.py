"""Files of answers, `reroute.answer/1` line by line: what each schedule said, and what it cost.

Knows the records; not how a page is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean, quantiles

from reroute_cli.console import units
from reroute_cli.pages import cells, charts
from reroute_cli.pages.inputs import Answers
from reroute_cli.pages.pieces import Cell, Chart, Column, Item, Part, Run, Said, Table, role_of
from reroute_cli.records.answer import AnswerRecord, FailedAnswer, told
from reroute_cli.reporting.generation import not_neutral
from reroute_cli.reporting.score_words import count
from reroute_cli.reporting.words import short

Judge = Callable[
    [AnswerRecord], tuple[str, bool | None]
]  # the arm that a record is of, and whether it is right
_TIMES: dict[str, Callable[[AnswerRecord], float]] = {
    "TTFT": lambda record: record.latency.ttft_s,
    "end to end": lambda record: record.latency.e2e_s,
}


def arm_of(record: AnswerRecord) -> tuple[str, None]:
    """'dense', 'pdrop reroute 0.889', a profile's name."""
    made = record.schedule
    if made.method in (None, "none") and made.profile is None:
        return "dense", None
    amount = "" if made.ratio is None else f" {made.ratio:g}"
    named = made.profile or f"{made.method} {made.action}"
    return short(named + amount, cells.NAME), None


def part_of(answers: Answers, name: str, judge: Judge = arm_of) -> Part:
    """The section of a file of answers, and its items. judge: names the arm of a record."""
    judge = _told_apart(answers, judge)
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


def _told_apart(answers: Answers, judge: Judge) -> Judge:
    """The same judge, who names decoder layers too where schedules of one name differ in them."""
    layers: dict[str, set[tuple[int, ...]]] = {}
    for record in answers.records:
        if isinstance(record, AnswerRecord):
            layers.setdefault(judge(record)[0], set()).add(_layers(record))

    def told(record: AnswerRecord) -> tuple[str, bool | None]:
        name, right = judge(record)
        if len(layers[name]) < 2:
            return name, right
        return f"{name} @{'+'.join(map(str, _layers(record)))}", right

    return told


def _layers(record: AnswerRecord) -> tuple[int, ...]:
    """Decoder layers at which tokens were reduced."""
    return tuple(stage.layer for stage in record.schedule.stages if stage.where == "decoder")


def _warnings(answers: Answers, failed: Sequence[FailedAnswer]) -> Iterator[str]:
    if failed:
        yield f"first error: {short(failed[0].id, cells.NAME)}: {short(failed[0].error, 300)}"
    if any(record.model.weights == "random" for record in answers.records):
        yield "random weights: the costs are real, the answers mean nothing"
    yield from dict.fromkeys(text for record in answers.records for text in not_neutral(record.generation))
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
        asked = told(record.question, record.images, record.turns)
        grouped.setdefault((record.id, record.image, asked), []).append(_said(record, judge))
    for (key, image, question), said in grouped.items():
        yield Item(key, image, question, source, tuple(sorted(said, key=lambda one: one.role != "dense")))


def _said(record: AnswerRecord | FailedAnswer, judge: Judge) -> Said:
    if isinstance(record, FailedAnswer):
        return Said("error", "other", "", error=record.error)
    arm, right = judge(record)
    made = record.schedule
    pair = f"{(made.method or '').partition('@')[0]} {made.ratio}"
    return Said(arm, _role([record]), record.answer, pair, right, tuple(record.boxes or ()))
