"""From what was measured to the report of `profile`: each metric a series, or unknown with its reason.

Knows the work, the measurements and the record's parts; measures nothing itself but the process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from reroute_cli import run
from reroute_cli.answer import adapter_part, generation_part, no_revision, text_of
from reroute_cli.environment import describe_environment
from reroute_cli.measure.flops import Flops
from reroute_cli.measure.kv import KvUse
from reroute_cli.measure.memory import host_peak_rss, weights_bytes
from reroute_cli.measure.nvml import PERIOD
from reroute_cli.metrics import METRICS, Kind
from reroute_cli.models import Loaded
from reroute_cli.outcome import average_visual, stage_parts, visual_per_layer
from reroute_cli.records.report import (
    ArmItem,
    ArmPart,
    CachePart,
    ItemPart,
    Number,
    ProcessPart,
    Protocol,
    Ratio,
    Report,
    Series,
    WorkloadModel,
    WorkloadPart,
)
from reroute_cli.records.section import Source
from reroute_cli.sources import POCKET
from reroute_cli.stats import CONFIDENCE, ratio_of_medians, ratio_of_sums, summarise

if TYPE_CHECKING:
    from reroute_cli.studies.profile import Caches, Measurements, MeasurePlan, Work

_FLOPS = ("vision_flops", "prefill_flops", "scoring_flops", "decode_flops")
_TIMES = ("ttft", "tpot", "e2e", "vision", "prefill", "decode", "output_rate")
_PEAKS = {  # metric -> what the memory pass calls it
    "torch_peak_allocated": "allocated",
    "torch_peak_reserved": "reserved",
    "nvml_process_peak": "process",
    "nvml_device_peak": "device",
    "energy": "energy",
}
_NO_PEAK = "this system does not report a process's peak"
SHARED = ("preprocess",)  # measured once for all arms: a ratio of it says nothing

Known = dict[str, Series]
Unknown = dict[str, str]


def make_report(work: Work, plan: MeasurePlan, measured: Measurements, seed: int) -> Report:
    """The whole report; its models check that nothing is missing."""
    loaded = work.loaded
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
    process = {"weights": series("weights", [[weights_bytes(loaded.model)]], "counted")}
    if (peak := host_peak_rss()) is not None:
        process["host_peak_rss"] = series("host_peak_rss", [[peak]])
    return Report(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        workload=WorkloadPart(
            model=workload_model(loaded),
            items=items,
            new_tokens=plan.new_tokens,
            batch_size=1,
            seed=seed,
            generation=generation_part(loaded, plan.new_tokens),
        ),
        protocol=Protocol(warmup=plan.warmup, rounds=plan.rounds, device=loaded.device, nvml_period_s=PERIOD),
        environment=describe_environment(loaded.proven),
        process=ProcessPart(  # what belongs to it: the weights, and the most that it ever had resident
            metrics=process, unknown={} if "host_peak_rss" in process else {"host_peak_rss": _NO_PEAK}
        ),
        arms=_arms(work, measured),
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


def _arms(work: Work, measured: Measurements) -> list[ArmPart]:
    """The dense arm, and the others with their ratios to it."""
    parts: list[ArmPart] = []
    rows = range(len(work.tasks))
    for column, arm in enumerate(work.arms):
        items = [_item(work, measured, row, column) for row in rows]
        known, unknown = arm_series(
            ArmValues(
                attention=work.loaded.attention,
                visual=[sum(item.visual_per_layer) / work.loaded.layers for item in items],
                agrees=[item.agrees for item in items],
                flops=[measured.flops[row][column] for row in rows],
                caches=[measured.caches[row][column] for row in rows],
                memory=[measured.memory[row][column] for row in rows],
                times=[[grid[row][column] for grid in measured.rounds] for row in rows],
                preprocess=[[seconds[row] for seconds in measured.preprocess] for row in rows],
            )
        )
        parts.append(
            ArmPart(
                name=arm.name,
                method=arm.method,
                action=arm.action,
                profile=arm.name if arm.choice.profile is not None else None,
                ratio=arm.choice.ratio,
                budget=arm.choice.budget,
                items=items,
                ratios=ratios(known, parts[0].metrics) if parts else {},
                metrics=known,
                unknown=unknown,
            )
        )
    return parts


def _item(work: Work, measured: Measurements, row: int, column: int) -> ArmItem:
    """What one arm did to one item."""
    task, answered, caches = work.tasks[row], measured.answers[row], measured.caches[row][column]
    given, schedule, layers = answered[column], task.schedules[column], work.loaded.layers
    text = text_of(work.loaded, given)
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


@dataclass(frozen=True)
class ArmValues:
    """What was measured of one arm, item by item. times[item][round], preprocess[item][round]: seconds.

    visual: the average number of visual tokens per decoder layer. agrees: with the dense answer.
    """

    attention: str
    visual: Sequence[float]
    agrees: Sequence[bool]
    flops: Sequence[Flops | None]
    caches: Sequence[Caches]
    memory: Sequence[run.MemoryPass]
    times: Sequence[Sequence[run.Times]]
    preprocess: Sequence[Sequence[float]]


def arm_series(values: ArmValues) -> tuple[Known, Unknown]:
    """Every metric of an arm in METRICS' order: its series, or why it is not known."""
    known = {
        "visual_tokens": series("visual_tokens", _once(values.visual), "counted"),
        "agreement": series("agreement", _once([int(agrees) for agrees in values.agrees]), "counted"),
        "kv_prefill": series("kv_prefill", _once([caches.prefill.total_bytes for caches in values.caches])),
        "kv_end": series("kv_end", _once([caches.end.total_bytes for caches in values.caches])),
        "preprocess": series("preprocess", [list(seconds) for seconds in values.preprocess]),
    }
    flops, unknown = _flops(values)
    known |= flops
    for name in _TIMES:
        rounds = [[getattr(times, name) for times in item] for item in values.times]
        if any(value is None for item in rounds for value in item):
            unknown[name] = "there is only one new token"
        else:
            known[name] = series(name, rounds)
    for name, key in _PEAKS.items():  # unknown for all items where it is unknown for one
        peaks = [one.energy if key == "energy" else one.peaks[key] for one in values.memory]
        if reasons := [one.reasons[key] for one in values.memory if key in one.reasons]:
            unknown[name] = reasons[0]
        else:
            known[name] = series(name, _once([value for value in peaks if value is not None]))
    return {name: known[name] for name in METRICS if name in known}, unknown


def series(name: str, values: list[list[Number]], source: Source = "measured") -> Series:
    """A metric's values, [item][round] in its base unit, with their statistics."""
    summary = summarise([value for item in values for value in item])
    reasons = {"std": "one value does not vary"} if summary.std is None else {}
    return Series(unit=METRICS[name].unit, source=source, values=values, **asdict(summary), reasons=reasons)


def ratios(arm: Mapping[str, Series], dense: Mapping[str, Series]) -> dict[str, Ratio]:
    """An arm's metrics over the dense arm's, for those that both have.

    Exact metrics are compared by their sums, all others by their medians; each ratio has a 95% confidence
    interval, or the reason why it has none.
    """
    found = {}
    for name in arm:
        if name not in dense or name in SHARED:
            continue
        ours, theirs = (
            [value for item in side.values for value in item] for side in (arm[name], dense[name])
        )
        divide = ratio_of_sums if METRICS[name].kind is Kind.EXACT else ratio_of_medians
        if (quotient := divide(ours, theirs)) is not None:
            found[name] = Ratio(
                value=quotient.value,
                low=quotient.low,
                high=quotient.high,
                confidence=CONFIDENCE,
                reasons={end: quotient.reason for end in ("low", "high") if quotient.reason},
            )
    return found


def _once(values: Sequence[Number]) -> list[list[Number]]:
    """One value an item: what no repetition would change, or what was measured once."""
    return [[value] for value in values]


def _flops(values: ArmValues) -> tuple[Known, Unknown]:
    """FLOPs of every part, or why none of them is known: a number that lacks a kernel would be too low."""
    counted = [flops for flops in values.flops if flops is not None]
    if len(counted) < len(values.flops):
        return {}, dict.fromkeys(_FLOPS, run.uncounted(values.attention))
    if unseen := sorted({name for flops in counted for name in flops.unknown}):
        return {}, dict.fromkeys(_FLOPS, run.uncounted(", ".join(unseen)))
    parts = {
        "vision_flops": [flops.vision for flops in counted],
        "prefill_flops": [flops.prefill + flops.scoring for flops in counted],
        "scoring_flops": [flops.scoring for flops in counted],
        "decode_flops": [flops.decode for flops in counted],
    }
    return {name: series(name, _once(part)) for name, part in parts.items()}, {}
