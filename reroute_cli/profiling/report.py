"""From what was measured to the report, `reroute.report/1`.

Knows the work, the measurements and the record's parts; measures nothing itself but the process.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from reroute_cli.arms import Arm
from reroute_cli.environment import describe_environment
from reroute_cli.measure.kv import KvUse
from reroute_cli.measure.memory import host_peak_rss, weights_bytes
from reroute_cli.measure.nvml import PERIOD
from reroute_cli.models.load import Loaded
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
    WorkloadModel,
    WorkloadPart,
)
from reroute_cli.run.answer import (
    adapter_part,
    average_visual,
    generation_part,
    no_revision,
    stage_parts,
    text_of,
    visual_per_layer,
)
from reroute_cli.sources import POCKET


def make_report(work: Work, plan: Plan, measured: Measured, seed: int) -> Report:
    """The whole report; its models check that nothing is missing."""
    return Report(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        workload=_workload(work, plan.new_tokens, seed),
        protocol=Protocol(
            warmup=plan.warmup, rounds=plan.rounds, device=work.loaded.device, nvml_period_s=PERIOD
        ),
        environment=describe_environment(work.loaded.proven),
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
            visual=task.visual,
            prompt=task.prompt.tokens,
        )
        for task in work.tasks
    ]
    return WorkloadPart(
        model=workload_model(work.loaded),
        items=items,
        new_tokens=new_tokens,
        batch_size=1,
        seed=seed,
        generation=generation_part(work.loaded, new_tokens),
    )


def workload_model(loaded: Loaded) -> WorkloadModel:
    """Which model ran, and how, as reports say it."""
    folder = Path(loaded.name).expanduser()
    in_folder = loaded.name != POCKET and folder.is_dir()
    return WorkloadModel(
        id=folder.resolve().name if in_folder else loaded.name,
        revision=loaded.revision,
        family=loaded.family,
        config_digest=loaded.config_digest,
        layers=loaded.layers,
        dtype=loaded.dtype,
        attention=loaded.attention,
        weights="random" if loaded.random else "loaded",
        processor_filled=dict(loaded.processor_filled),
        chat_template=loaded.chat_template,
        adapter=adapter_part(loaded),
        reasons=no_revision(loaded),
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
        visual=[sum(item.visual_per_layer) / work.loaded.layers for item in items],
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
        schedule=schedule.digest(),
        achieved_ratio=1 - average_visual(given.stages, task.visual, layers) / task.visual,
        stages=stage_parts(schedule, given.stages),
        visual_per_layer=visual_per_layer(given.stages, task.visual, layers),
        kv_prefill=_cache(caches.prefill),
        kv_end=_cache(caches.end),
    )


def _cache(held: KvUse) -> CachePart:
    return CachePart(
        logical_tokens=held.logical,
        per_layer_tokens=list(held.tokens),
        per_layer_bytes=list(held.bytes),
        dense_bytes=held.dense_bytes,
    )
