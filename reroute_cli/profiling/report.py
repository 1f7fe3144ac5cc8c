"""From what was measured to the report, `reroute.report/2`.

Knows the work, the measurements and the record's parts; measures nothing itself but the process.
"""

from __future__ import annotations

from datetime import UTC, datetime

from reroute_cli.answer import generation_part, model_part, text_of
from reroute_cli.arms import Arm
from reroute_cli.environment import describe_environment
from reroute_cli.measure.kv import KvUse
from reroute_cli.measure.memory import host_peak_rss, weights_bytes
from reroute_cli.measure.nvml import PERIOD
from reroute_cli.outcome import average_visual, stage_parts, visual_per_layer
from reroute_cli.profiling.loop import Caches, Measured
from reroute_cli.profiling.plan import Plan
from reroute_cli.profiling.series import ArmValues, arm_series, ratios, series
from reroute_cli.profiling.work import Work
from reroute_cli.records.report import (
    ArmItem,
    ArmPart,
    CachePart,
    ItemPart,
    ProcessPart,
    Protocol,
    Report,
    WorkloadPart,
)


def make_report(work: Work, plan: Plan, measured: Measured, seed: int) -> Report:
    """The whole report; its models check that nothing is missing."""
    return Report(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=model_part(work.loaded),
        environment=describe_environment(work.loaded.proven),
        generation=generation_part(work.loaded, plan.new_tokens),
        workload=_workload(work, plan.new_tokens, seed),
        protocol=Protocol(warmup=plan.warmup, rounds=plan.rounds, nvml_period_s=PERIOD),
        process=_process(work),
        arms=_arms(work, measured),
    )


def _workload(work: Work, new_tokens: int, seed: int) -> WorkloadPart:
    items = [
        ItemPart(
            id=task.item.id,
            images=[image.name for image in task.item.images],
            question=task.item.question,
            digest=task.digest,
            visual_tokens=task.visual,
            prompt_tokens=task.prompt.tokens,
        )
        for task in work.tasks
    ]
    return WorkloadPart(
        items=items,
        new_tokens=new_tokens,
        batch_size=1,
        seed=seed,
    )


def _process(work: Work) -> ProcessPart:
    """What belongs to the process: the model's weights, and the most that it ever had resident."""
    found = {"weights": series("weights", [[weights_bytes(work.loaded.model)]], "counted")}
    peak = host_peak_rss()
    if peak is None:
        return ProcessPart(
            metrics=found, unknown={"host_peak_rss": "this system does not report a process's peak"}
        )
    return ProcessPart(metrics=found | {"host_peak_rss": series("host_peak_rss", [[peak]])})


def _arms(work: Work, measured: Measured) -> list[ArmPart]:
    """The dense arm, and the others with their ratios to it."""
    parts: list[ArmPart] = []
    for column, arm in enumerate(work.arms):
        items = [_item(work, measured, row, column) for row in range(len(work.tasks))]
        known, unknown = arm_series(_values(work, measured, column, items))
        parts.append(
            ArmPart(
                name=arm.name,
                method=arm.method,
                action=arm.action,
                profile=_profile(arm),
                ratio=arm.choice.ratio,
                budget=arm.choice.budget,
                items=items,
                ratios=ratios(known, parts[0].metrics) if parts else {},
                metrics=known,
                unknown=unknown,
            )
        )
    return parts


def _values(work: Work, measured: Measured, column: int, items: list[ArmItem]) -> ArmValues:
    """One arm's column out of everything that was measured."""
    rows = range(len(work.tasks))
    return ArmValues(
        attention=work.loaded.attention,
        visual=[sum(item.per_layer_visual_tokens) / work.loaded.layers for item in items],
        agrees=[item.agrees for item in items],
        flops=[measured.flops[row][column] for row in rows],
        caches=[measured.caches[row][column] for row in rows],
        memory=[measured.memory[row][column] for row in rows],
        times=[[grid[row][column] for grid in measured.rounds] for row in rows],
        preprocess=[[seconds[row] for seconds in measured.preprocess] for row in rows],
    )


def _profile(arm: Arm) -> str | None:
    return arm.name if arm.choice.profile is not None else None


def _item(work: Work, measured: Measured, row: int, column: int) -> ArmItem:
    task, answered = work.tasks[row], measured.answers[row]
    given, schedule, layers = answered[column], task.schedules[column], work.loaded.layers
    text = text_of(work.loaded, given)
    caches: Caches = measured.caches[row][column]
    return ArmItem(
        id=task.item.id,
        answer=text,
        finish="length" if given.cut else "stop",
        agrees=text == text_of(work.loaded, answered[0]),
        schedule_digest=schedule.digest(),
        achieved_ratio=1 - average_visual(given.stages, task.visual, layers) / task.visual,
        stages=stage_parts(schedule, given.stages),
        per_layer_visual_tokens=visual_per_layer(given.stages, task.visual, layers),
        kv_cache_prefill=_cache(caches.prefill),
        kv_cache_end=_cache(caches.end),
    )


def _cache(held: KvUse) -> CachePart:
    return CachePart(
        logical_tokens=held.logical,
        per_layer_tokens=list(held.tokens),
        per_layer_bytes=list(held.bytes),
        dense_bytes=held.dense_bytes,
    )
