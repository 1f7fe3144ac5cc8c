"""Answers, `reroute.answer/1`: the card of one, and a whole file of them beside one another.

Knows the records; no writer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median

from reroute_cli.console import units
from reroute_cli.records.answer import AnswerRecord, FailedAnswer, told
from reroute_cli.views import wording as w
from reroute_cli.views.document import (
    ArmAnswer,
    Block,
    Cell,
    Chart,
    Column,
    Document,
    Gallery,
    GalleryItem,
    Table,
    Text,
    Tile,
    Tone,
)
from reroute_cli.views.write import charts

Number = float | None
_MEMORY = {
    "weights_bytes": "weights",
    "host_peak_rss_bytes": "host peak RSS",
    "torch_peak_allocated_bytes": "torch peak allocated",
    "torch_peak_reserved_bytes": "torch peak reserved",
    "nvml_process_peak_bytes": "NVML process peak",
    "nvml_device_peak_bytes": "NVML device peak",
}
_TIMES: dict[str, Callable[[AnswerRecord], float]] = {
    "TTFT": lambda record: record.latency.ttft_s,
    "end to end": lambda record: record.latency.e2e_s,
}


def document(record: AnswerRecord | FailedAnswer, *, verbose: bool = False) -> Document:
    """One answer and what it cost; a failed item is its error."""
    if isinstance(record, FailedAnswer):
        return Document("answer", (Text(f"failed: {record.error}", Tone.FAILED), Gallery((_item([record]),))))
    tokens, flops, kv = record.tokens, record.flops, record.kv_cache
    kept = f"visual tokens/layer {units.tokens(tokens.visual_tokens_per_layer)} of {tokens.visual_tokens}"
    saved, resized = "dense", record.schedule.resized
    if record.schedule.stages or resized:
        prefill = units.ratio(flops.prefill_flops, flops.dense_prefill_flops)
        saved = f"prefill {prefill} FLOPs · KV {units.ratio(kv.kv_end_bytes, kv.dense_kv_end_bytes)}"
    warnings = [*w.beware(record.model.weights, record.generation, "answer means")]
    warnings += [w.SAVES_NOTHING] if resized and not resized.saves else []
    if tokens.finish == "length":
        warnings.append(f"the answer was cut at --max-new-tokens {tokens.new_tokens}")
    return Document(
        "answer",
        (
            Text(f"{kept} · {saved}", Tone.HEADLINE),
            Tile("answer", w.short(record.answer, 40) or "(nothing)", f"{tokens.new_tokens} new tokens"),
            _costs(record, verbose=verbose),
            *w.texts(Tone.NOTE, _notes(record)),
            *w.texts(Tone.WARNING, warnings),
            Gallery((_item([record]),)),
        ),
    )


def _costs(record: AnswerRecord, *, verbose: bool) -> Table:
    """Measured numbers, beside dense ones where there is something to compare; verbose: memory too."""
    flops, kv, latency, memory = record.flops, record.kv_cache, record.latency, record.memory
    how = flops.source if flops.prefill_flops is not None else "unknown"
    compared: list[tuple[str, Number, Number, Callable[[Number], str], str]] = [
        (
            "visual tokens/layer",
            record.tokens.visual_tokens_per_layer,
            record.tokens.visual_tokens,
            units.tokens,
            "counted",
        ),
        ("vision", flops.vision_flops, flops.dense_vision_flops, units.flops, how),
        ("prefill", record.flops.prefill_flops, flops.dense_prefill_flops, units.flops, how),
        ("KV cache", kv.kv_end_bytes, kv.dense_kv_end_bytes, units.size, kv.source),
    ]
    alone: list[tuple[str, Number, Callable[[Number], str], str]] = [
        (f"decode, {record.tokens.new_tokens} new", flops.decode_flops, units.flops, flops.source),
        ("TTFT", latency.ttft_s, units.seconds, "measured"),
        ("TPOT", latency.tpot_s, units.seconds, latency.reasons.get("tpot_s", "measured")),
        ("end to end", latency.e2e_s, units.seconds, "measured"),
    ]
    if memory is not None and verbose:
        alone += [
            (label, getattr(memory, key), units.size, memory.reasons.get(key, "measured"))
            for key, label in _MEMORY.items()
        ]
    reduced = record.schedule.stages or record.schedule.resized
    numbers = ("this run", "dense", "ratio") if reduced else ("this run",)
    headers = (Column("what", ""), *w.columns(*numbers, right=numbers), Column("how", ""))
    rows = []
    for what, mine, dense, show, made in compared:
        ratio = mine / dense if mine is not None and dense else None
        cells = {"dense": Cell(show(dense), dense), "ratio": Cell(units.ratio(mine, dense), ratio)}
        rows.append({"what": Cell(what), "this run": Cell(show(mine), mine), **cells, "how": Cell(made)})
    for what, mine, show, made in alone:
        rows.append({"what": Cell(what), "this run": Cell(show(mine), mine), "how": Cell(made)})
    return Table("What the answer cost", headers, tuple(rows))


def _notes(record: AnswerRecord) -> Iterator[str]:
    """What each stage kept, how the numbers that are no plain measurements were made, and who answered."""
    flops, schedule, model = record.flops, record.schedule, record.model
    if schedule.stages:
        kept = [
            f"{w.place(stage.where, stage.layer)}: {stage.kept}"
            + (f" ({stage.reentered} re-entered)" if stage.reentered else "")
            for stage in schedule.stages
        ]
        yield f"kept of {record.tokens.visual_tokens} from {' · '.join(kept)}"
    if schedule.resized is not None:
        yield f"before the processor: {'; '.join(map(w.shrunk, schedule.resized.images))}"
    notes = []
    if flops.prefill_flops is None:
        notes.append(flops.reasons["prefill_flops"])
    elif flops.scoring_flops:
        notes.append(f"prefill includes {units.flops(flops.scoring_flops)} of scoring")
    notes += [f"dense KV is {record.kv_cache.dense_source}"] if schedule.stages or schedule.resized else []
    times, asked = "times are one run without warm-up", record.latency.batch_size
    if asked > 1:
        computed = ", their images computed once" if record.latency.shared_prefix else ""
        times = f"times are one run of {asked} prompts together{computed}, without warm-up"
    yield " · ".join([*notes, times])
    named = schedule.profile or schedule.method or ""
    how = f"{named} {schedule.action}" if schedule.stages else "dense"
    yield w.who(model, named if schedule.resized else how)


@dataclass(frozen=True)
class Answers:
    """The answers in a file of records; the last of each key. dropped: lines that are not here, and why."""

    records: list[AnswerRecord | FailedAnswer] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


Judge = Callable[[AnswerRecord], tuple[str, bool | None]]
"""Names the arm that a record is of, and whether it is right."""


def arm_of(record: AnswerRecord) -> tuple[str, None]:
    """'dense', 'pdrop reroute 0.889', a profile's name."""
    made = record.schedule
    if made.method in (None, "none") and made.profile is None:
        return "dense", None
    amount = "" if made.ratio is None else f" {made.ratio:g}"
    named = made.method if made.resized else f"{made.method} {made.action}"
    return w.short(f"{made.profile or named}{amount}", w.NAME), None


def answers_document(answers: Answers, judge: Judge = arm_of) -> Document:
    """What each schedule said, and what it cost. judge: names the arm of a record."""
    judge = _told_apart(answers, judge)
    arms: dict[str, list[AnswerRecord]] = {}
    failed = [record for record in answers.records if isinstance(record, FailedAnswer)]
    for record in answers.records:
        if isinstance(record, AnswerRecord):
            arms.setdefault(judge(record)[0], []).append(record)
    arms = dict(sorted(arms.items(), key=lambda pair: pair[0] != "dense"))
    ids = {record.id for record in answers.records}
    said = f"{w.count(sum(map(len, arms.values())), 'answer')} to {w.count(len(ids), 'item')}"
    said += f" under {w.count(len(arms), 'schedule')}"
    said += f", {w.count(len(failed), 'error')}" if failed else ""
    warnings = [f"first error: {w.short(one.id, w.NAME)}: {w.short(one.error, 300)}" for one in failed[:1]]
    for record in answers.records:
        warnings += w.beware(record.model.weights, record.generation)
    blocks: list[Block] = [Text(said, Tone.HEADLINE), *(_compared(arms) if arms else ())]
    blocks += w.texts(Tone.WARNING, dict.fromkeys([*warnings, *answers.dropped]))
    blocks.append(
        Text("times are of the pass that answered, one run without warm-up: measure with reroute profile")
    )
    grouped: dict[tuple[str, str, str], list[AnswerRecord | FailedAnswer]] = {}
    for record in answers.records:
        asked = told(record.question, record.images, record.turns)
        grouped.setdefault((record.id, record.image, asked), []).append(record)
    items = tuple(_item(records, judge) for records in grouped.values())
    return Document("answers", (*blocks, *map(Text, answers.notes), Gallery(items)))


def _told_apart(answers: Answers, judge: Judge) -> Judge:
    """The same judge, who names decoder layers too where schedules of one name differ in them."""

    def layers_of(record: AnswerRecord) -> tuple[int, ...]:
        return tuple(stage.layer for stage in record.schedule.stages if stage.where == "decoder")

    layers: dict[str, set[tuple[int, ...]]] = {}
    for record in answers.records:
        if isinstance(record, AnswerRecord):
            layers.setdefault(judge(record)[0], set()).add(layers_of(record))

    def judged(record: AnswerRecord) -> tuple[str, bool | None]:
        arm, right = judge(record)
        return (arm if len(layers[arm]) < 2 else f"{arm} @{'+'.join(map(str, layers_of(record)))}"), right

    return judged


def _role(record: AnswerRecord) -> str:
    made = record.schedule
    return w.role_of("dense" if made.method == "none" else None, made.action)


def _compared(arms: dict[str, list[AnswerRecord]]) -> Iterator[Table | Chart]:
    """What the answers of each schedule took: a table of means, times as boxes, the cache layer by layer."""
    numbers = ("answers", "tokens/layer", "KV cache", "× dense", "prefill", *_TIMES)
    headers, rows, stored = w.columns("schedule", *numbers, right=numbers), [], []
    for kind, (arm, records) in enumerate(arms.items()):
        role, caches = _role(records[0]), [record.kv_cache for record in records]
        kv = fmean(cache.kv_end_bytes for cache in caches)
        dense = fmean(cache.dense_kv_end_bytes for cache in caches)
        known = [record.flops.prefill_flops for record in records if record.flops.prefill_flops is not None]
        prefill = fmean(known) if known else None
        cells = (
            w.name(arm, role),
            w.counted(len(records)),
            w.tokens(fmean(record.tokens.visual_tokens_per_layer for record in records)),
            Cell(units.size(kv), kv, caches[0].source),
            Cell(units.ratio(kv, dense), kv / dense if dense else None),
            Cell(units.flops(prefill), prefill, records[0].flops.source if known else ""),
            *(w.seconds(median(map(take, records)), "median") for take in _TIMES.values()),
        )
        rows.append(cells)
        layers = [cache.per_layer_tokens for cache in caches]
        same = (one for one in layers if len(one) == len(layers[0]))  # answers of the first one's depth
        means = tuple(map(fmean, zip(*same, strict=True)))
        stored.append(charts.ArmLine(arm, role, means, kind))
    yield w.table("Every schedule: means over answers", headers, rows)
    for what, take in _TIMES.items():
        lines = [
            charts.ArmLine(arm, _role(records[0]), tuple(map(take, records))) for arm, records in arms.items()
        ]
        yield charts.times(what, lines, "measured, of the pass that answered", "half")
    what = "KV cache per layer, at the end"
    yield charts.layers(what, stored, "stored tokens", "mean over answers, text included", "full")


def _item(records: Sequence[AnswerRecord | FailedAnswer], judge: Judge = arm_of) -> GalleryItem:
    """One question about an image with the answers of all its schedules, the dense one first."""
    first, said = records[0], []
    for record in records:
        if isinstance(record, FailedAnswer):
            said.append(ArmAnswer("error", "other", "", error=record.error))
            continue
        (arm, right), made = judge(record), record.schedule
        pair, boxes = f"{(made.method or '').partition('@')[0]} {made.ratio}", tuple(record.boxes or ())
        said.append(ArmAnswer(arm, _role(record), record.answer, pair, right, boxes))
    asked = told(first.question, first.images, first.turns)
    return GalleryItem(first.id, first.image, asked, tuple(sorted(said, key=lambda one: one.role != "dense")))
