"""The card under an answer: one headline, one table, and what to know before quoting the numbers.

Knows records and units; writes nowhere (output.py does).
"""

from __future__ import annotations

from collections.abc import Callable

from rich.table import Table
from rich.text import Text

from reroute_cli.console import units
from reroute_cli.records.answer import AnswerRecord, SchedulePart
from reroute_cli.render.draw import DIM, STRONG, Page, plain, table
from reroute_cli.reporting.generation import not_neutral


def cost_card(record: AnswerRecord, *, verbose: bool = False) -> Page:
    """The card under an answer: one headline, one table, and what to know before quoting them."""
    parts: Page = [
        plain(""),
        _headline(record),
        plain(""),
        _costs(record, verbose),
        plain(""),
    ]
    if record.schedule.stages:
        parts.append(_stages(record.schedule, record.tokens.visual))
    return [*parts, *_footer(record)]


def _headline(record: AnswerRecord) -> Text:
    """'visual tokens/layer 28.6 of 256 · prefill 0.41× FLOPs · KV 0.35×'."""
    tokens, flops, kv = record.tokens, record.flops, record.kv_cache
    share = f"visual tokens/layer {units.tokens(tokens.average_visual)} of {tokens.visual}"
    if not record.schedule.stages:
        return plain(f"{share} · dense", STRONG)
    prefill = units.ratio(_with_scoring(record), flops.dense_prefill)
    return plain(f"{share} · prefill {prefill} FLOPs · KV {units.ratio(kv.bytes, kv.dense_bytes)}", STRONG)


def _with_scoring(record: AnswerRecord) -> int | None:
    """Prefill FLOPs with what ranking the tokens cost: the number that is compared with dense."""
    flops = record.flops
    return None if flops.prefill is None or flops.scoring is None else flops.prefill + flops.scoring


def _costs(record: AnswerRecord, verbose: bool) -> Table:
    """Measured numbers, beside dense ones where there is something to compare."""
    rows = [*_compared(record), *_alone(record), *(_memory(record) if verbose else ())]
    if record.schedule.stages:
        return table(("", "this run", "dense", "ratio", ""), rows, right=(1, 2, 3))
    return table(("", "this run", ""), [(row[0], row[1], row[4]) for row in rows], right=(1,))


Row = tuple[str, str, str, str, str]  # name, this run, dense, ratio, how the number was made
Number = float | None


def _compared(record: AnswerRecord) -> list[Row]:
    tokens, flops, kv = record.tokens, record.flops, record.kv_cache
    counted = flops.source if flops.prefill is not None else "unknown"
    return [
        _row("visual tokens/layer", tokens.average_visual, tokens.visual, units.tokens, "counted"),
        _row("vision", flops.vision, flops.dense_vision, units.flops, counted),
        _row("prefill", _with_scoring(record), flops.dense_prefill, units.flops, counted),
        _row("KV cache", kv.bytes, kv.dense_bytes, units.size, kv.source),
    ]


def _row(name: str, run: Number, dense: Number, show: Callable[[Number], str], how: str) -> Row:
    return name, show(run), show(dense), units.ratio(run, dense), how


def _alone(record: AnswerRecord) -> list[Row]:
    latency, flops = record.latency, record.flops
    rows = [
        (f"decode, {record.tokens.new} new", units.flops(flops.decode), flops.source),
        ("TTFT", units.seconds(latency.ttft_s), "measured"),
        ("TPOT", units.seconds(latency.tpot_s), latency.reasons.get("tpot_s", "measured")),
        ("end to end", units.seconds(latency.e2e_s), "measured"),
    ]
    return [(name, value, "", "", how) for name, value, how in rows]


def _memory(record: AnswerRecord) -> list[Row]:
    """The five kinds of memory, and why for each that is unknown."""
    memory = record.memory
    if memory is None:
        return []
    return [
        (label, units.size(getattr(memory, field)), "", "", memory.reasons.get(field, "measured"))
        for field, label in _MEMORY.items()
    ]


_MEMORY = {
    "weights_bytes": "weights",
    "host_peak_rss_bytes": "host peak RSS",
    "torch_peak_allocated_bytes": "torch peak allocated",
    "torch_peak_reserved_bytes": "torch peak reserved",
    "nvml_process_peak_bytes": "NVML process peak",
    "nvml_device_peak_bytes": "NVML device peak",
}


def _stages(schedule: SchedulePart, visual: int) -> Text:
    """'kept of 256 at layer 1: 69 · 5: 69 (41 re-entered)'."""
    words = [
        f"{'tower, ' if stage.where == 'vision' else ''}layer {stage.layer}: {stage.kept}"
        + (f" ({stage.reentered} re-entered)" if stage.reentered else "")
        for stage in schedule.stages
    ]
    return plain(f"kept of {visual} from " + " · ".join(words))


def _footer(record: AnswerRecord) -> list[Text]:
    """Who answered, under what, and what a reader must know before quoting the numbers."""
    model, schedule = record.model, record.schedule
    name = schedule.profile or schedule.method
    run = f"{name} {schedule.action}" if schedule.stages else "dense"
    who = f"{model.id} · {model.family} · {model.device} {model.dtype} {model.attention} · {run}"
    warnings = [plain(text, "yellow") for text in _warnings(record)]
    return [plain(" · ".join(_notes(record)), DIM), plain(who, DIM), *warnings]


def _notes(record: AnswerRecord) -> list[str]:
    """How the numbers that are not plain measurements were made."""
    flops, kv, notes = record.flops, record.kv_cache, []
    if flops.prefill is None:
        notes.append(flops.reasons["prefill"])
    elif flops.scoring:
        notes.append(f"prefill includes {units.flops(flops.scoring)} of scoring")
    if record.schedule.stages:
        notes.append(f"dense KV is {kv.dense_source}")
    return [*notes, "times are one run without warm-up"]


def _warnings(record: AnswerRecord) -> list[str]:
    """What would mislead if it were not said."""
    found = []
    if record.model.weights == "random":
        found.append("random weights: the costs are real, the answer means nothing")
    found += not_neutral(record.generation)
    if record.tokens.finish == "length":
        found.append(f"the answer was cut at --max-new-tokens {record.tokens.new}")
    return found
