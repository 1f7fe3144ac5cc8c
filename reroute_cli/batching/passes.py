"""One pass of the model over several items, and the record of each.

Knows prepared items and record parts; not files, nor which items go together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reroute_cli import run
from reroute_cli.answer import (
    boxes_in,
    environment_part,
    generation_part,
    measured_kv,
    model_part,
    schedule_part,
    text_of,
)
from reroute_cli.batch_inputs import BatchItem
from reroute_cli.batching.collate import collate
from reroute_cli.batching.costs import CostModel, KvLayer, kv_layers, kv_share
from reroute_cli.batching.prepare import Keyed, Ready, Request
from reroute_cli.measure.kv import measure_kv
from reroute_cli.outcome import average_visual, visual_per_layer
from reroute_cli.records.answer import (
    AnswerRecord,
    FailedAnswer,
    KvPart,
    LatencyPart,
    TokensPart,
    TurnPart,
)
from reroute_cli.schedules import ScheduleChoice
from routing import Schedule

_NO_MEMORY = "one pass over many items measures no item's memory; ask does"


@dataclass(frozen=True)
class _Pass:
    """What the records of one pass share. ask: the place of its choice in the request."""

    choice: ScheduleChoice
    ask: int
    schedule: Schedule
    timed: run.TimedRows
    layers: tuple[KvLayer, ...]
    measured: KvPart | None
    items: int
    halvings: int


def answer_batch(
    request: Request, ask: int, costs: CostModel, items: Sequence[Ready], halvings: int
) -> list[AnswerRecord]:
    """Answer items that share a schedule together, under one ask; raises what the model raises."""
    schedule = items[0].schedules[ask]
    assert isinstance(schedule, Schedule)
    inputs = collate([item.prompt.inputs for item in items], run.pad_token(request.loaded))
    job = run.Job(request.loaded, run.on_device(inputs, request.loaded.model), schedule)
    timed = run.timed_rows(job, request.max_new_tokens)
    measured = measured_kv(measure_kv(timed.cache)) if request.batch_size == 1 else None
    shared = _Pass(
        request.asks[ask].choice, ask, schedule, timed, kv_layers(timed.cache), measured, len(items), halvings
    )
    return [_record(request, costs, item, row, shared) for item, row in zip(items, timed.rows, strict=True)]


def failed(request: Request, ask: int, keyed: Keyed, reason: str) -> FailedAnswer:
    """The record of an item that has no answer under one ask, and why."""
    asked = keyed.item
    return FailedAnswer(
        id=asked.id,
        key=keyed.keys[ask].failure,
        image=asked.image,
        images=[image.name for image in asked.images],
        question=asked.question,
        turns=turn_parts(asked),
        model=model_part(request.loaded),
        environment=environment_part(request.loaded),
        generation=generation_part(request.loaded, request.max_new_tokens),
        error=reason,
    )


def _record(request: Request, costs: CostModel, item: Ready, row: run.Row, shared: _Pass) -> AnswerRecord:
    loaded, asked, visual = request.loaded, item.keyed.item, item.visual
    text = text_of(loaded, row)
    boxes, reasons = boxes_in(text, loaded, item.sizes, item.prompt)
    return AnswerRecord(
        id=asked.id,
        key=item.keyed.keys[shared.ask].answer,
        image=asked.image,
        images=[image.name for image in asked.images],
        question=asked.question,
        turns=turn_parts(asked),
        answer=text,
        boxes=boxes,
        model=model_part(loaded),
        environment=environment_part(loaded),
        generation=generation_part(loaded, request.max_new_tokens),
        schedule=schedule_part(shared.choice, shared.schedule, row.stages, visual, loaded.layers),
        tokens=TokensPart(
            visual_tokens=visual,
            visual_tokens_per_layer=average_visual(row.stages, visual, loaded.layers),
            prompt_tokens=item.prompt.tokens,
            new_tokens=len(row.new),
            finish="length" if row.cut else "stop",
        ),
        flops=costs.flops(shared.schedule, item.prompt.tokens - visual, visual, len(row.new), item.sizes),
        kv_cache=shared.measured or _kv_part(item, row, shared.layers),
        latency=_latency_part(item, shared),
        memory=None,
        reasons=reasons | {"memory": _NO_MEMORY},
    )


def turn_parts(item: BatchItem) -> list[TurnPart]:
    """The turns of a chat, as records have them; [] where there is but a question."""
    return [TurnPart.model_validate(turn.message()) for turn in item.turns]


def _kv_part(item: Ready, row: run.Row, layers: Sequence[KvLayer]) -> KvPart:
    """A row's share of the cache: its prompt as far as it was kept, and its new tokens but the last."""
    others = item.prompt.tokens - item.visual + len(row.new) - 1
    tokens = [others + kept for kept in visual_per_layer(row.stages, item.visual, len(layers))]
    return kv_share(layers, tokens, others + item.visual)


def _latency_part(item: Ready, shared: _Pass) -> LatencyPart:
    clock = shared.timed.clock
    return LatencyPart(
        preprocess_s=item.prompt.seconds,
        ttft_s=clock.ttft,
        tpot_s=clock.tpot,
        e2e_s=clock.end_to_end,
        warmup=0,
        runs=1,
        batch_size=shared.items,
        halvings=shared.halvings,
        reasons={} if clock.tpot is not None else {"tpot_s": "there is only one new token"},
    )
