"""From what was measured to the report of `profile`: each metric a series, or unknown with its reason.

Knows the work, the measurements and the record's parts; measures nothing itself but the process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reroute_cli.measure import passes
from reroute_cli.measure.environment import describe_environment
from reroute_cli.measure.memory import PERIOD, KvUse, host_peak_rss, weights_bytes
from reroute_cli.measure.stats import (
    CONFIDENCE,
    FEWEST_VALUES,
    Quotient,
    outliers,
    ratio_of_percentiles,
    ratio_of_sums,
    summarise,
)
from reroute_cli.measure.warmup import warmup_part
from reroute_cli.records.metrics import LATENCIES, METRICS, OF_ARMS, Better, Kind
from reroute_cli.records.report import (
    PERCENTILES,
    ArmItem,
    ArmPart,
    CachePart,
    ItemPart,
    Number,
    Percentile,
    ProcessPart,
    Protocol,
    Ratio,
    Report,
    Series,
    WorkloadPart,
)
from reroute_cli.run.answer import generation_part, model_part, text_of
from reroute_cli.run.stages import average_visual, stage_parts, visual_per_layer

if TYPE_CHECKING:
    from reroute_cli.measure.flops import Flops
    from reroute_cli.records.base import Source
    from reroute_cli.studies.profile import Caches, Measurements, MeasurePlan, Work

_NO_PEAK = "this system does not report a process's peak"
_NOTHING_FOLLOWS = "there is only one new token"

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
            visual_tokens=task.visual,
            prompt_tokens=task.prompt.tokens,
        )
        for task in work.tasks
    ]
    process = {"weights": series("weights", [[weights_bytes(loaded.model)]], "counted")}
    if (peak := host_peak_rss()) is not None:
        process["host_peak_rss"] = series("host_peak_rss", [[peak]])
    return Report(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=model_part(loaded),
        environment=describe_environment(loaded.proven),
        generation=generation_part(loaded, plan.new_tokens),
        workload=WorkloadPart(
            items=items,
            new_tokens=plan.new_tokens,
            batch_size=plan.batch_size,
            seed=seed,
            passes=[list(places) for places in measured.together] if plan.batch_size > 1 else [],
        ),
        protocol=Protocol(
            warmup=len(measured.warm),
            rounds=plan.rounds,
            nvml_period_s=PERIOD,
            warmup_auto=warmup_part(measured.warm) if plan.until_steady else None,
            slo=dict(plan.slo),
        ),
        process=ProcessPart(  # what belongs to it: the weights, and the most that it ever had resident
            metrics=process, unknown={} if "host_peak_rss" in process else {"host_peak_rss": _NO_PEAK}
        ),
        arms=_arms(work, measured, plan.slo),
    )


def _arms(work: Work, measured: Measurements, slo: Mapping[str, float]) -> list[ArmPart]:
    """The dense arm, and the others with their ratios to it."""
    parts: list[ArmPart] = []
    rows = range(len(work.tasks))
    for column, arm in enumerate(work.arms):
        items = [_item(work, measured, row, column) for row in rows]
        timed = range(len(measured.together))
        times = [[grid[one][column] for grid in measured.rounds] for one in timed]
        known, unknown = arm_series(
            ArmValues(
                attention=work.loaded.attention,
                visual=[sum(item.per_layer_visual_tokens) / work.loaded.layers for item in items],
                agrees=[item.agrees for item in items],
                flops=[measured.flops[row][column] for row in rows],
                caches=[measured.caches[row][column] for row in rows],
                memory=[measured.memory[row][column] for row in rows],
                times=times,
                slo=slo,
                preprocess=[[seconds[row][column] for seconds in measured.preprocess] for row in rows],
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
                percentile_ratios=percentile_ratios(known, parts[0].metrics) if parts else {},
                requests_met=sum(one.requests for row in times for one in row if one.meets(slo))
                if slo
                else None,
                metrics=known,
                unknown=unknown,
            )
        )
    return parts


def _item(work: Work, measured: Measurements, row: int, column: int) -> ArmItem:
    """What one arm did to one item."""
    task, answered, caches = work.tasks[row], measured.answers[row], measured.caches[row][column]
    given, asked, layers = answered[column], task.prompts[column], work.loaded.layers
    text, shrunk = text_of(work.loaded, given), asked.shrunk
    dense = caches if shrunk is None else measured.caches[row][0]
    return ArmItem(
        id=task.item.id,
        answer=text,
        finish="length" if given.cut else "stop",
        agrees=text == text_of(work.loaded, answered[0]),
        schedule_digest=asked.schedule.digest(),
        achieved_ratio=1 - average_visual(given.stages, asked.visual, layers) / task.visual,
        stages=stage_parts(asked.schedule, given.stages),
        resized=None if shrunk is None else shrunk.part,
        per_layer_visual_tokens=visual_per_layer(given.stages, asked.visual, layers),
        kv_cache_prefill=_cache(caches.prefill, dense.prefill),
        kv_cache_end=_cache(caches.end, dense.end),
    )


def _cache(held: KvUse, dense: KvUse) -> CachePart:
    """A cache, and the one that it stands for: that of the images as they are where these are smaller."""
    return CachePart(
        logical_tokens=dense.logical,
        per_layer_tokens=list(held.tokens),
        per_layer_bytes=list(held.bytes),
        dense_bytes=dense.dense_bytes,
    )


@dataclass(frozen=True)
class ArmValues:
    """What was measured of one arm, item by item. times[pass][round], preprocess[item][round]: seconds.

    visual: the average number of visual tokens per decoder layer. agrees: with the dense answer. slo: the
    objectives of goodput in seconds.
    """

    attention: str
    visual: Sequence[float]
    agrees: Sequence[bool]
    flops: Sequence[Flops | None]
    caches: Sequence[Caches]
    memory: Sequence[passes.MemoryPass]
    times: Sequence[Sequence[passes.Times]]
    slo: Mapping[str, float]
    preprocess: Sequence[Sequence[float]]


Measure = Callable[[ArmValues], list[list[Number]] | str]


def arm_series(values: ArmValues) -> tuple[Known, Unknown]:
    """Every metric of an arm in METRICS' order: its series, or why it is not known."""
    known, unknown = {}, {}
    for name in OF_ARMS:
        found = MEASURES[name](values)
        if isinstance(found, str):
            unknown[name] = found
        else:
            known[name] = series(name, found, _COUNTED.get(name, "measured"))
    return known, unknown


def series(name: str, values: list[list[Number]], source: Source = "measured") -> Series:
    """A metric's values, [item][round] in its base unit, with their statistics.

    Of times and rates a percentile that too few values stand behind is null, and outliers are counted.
    """
    metric, found = METRICS[name], asdict(summarise([value for item in values for value in item]))
    reasons = {"std": "one value does not vary"} if found["std"] is None else {}
    if metric.kind is Kind.TIMED:
        found["outliers"] = outliers(values, low=metric.better is Better.HIGHER)
        for percentile, fewest in FEWEST_VALUES.items():
            if found["n"] < fewest:
                found[percentile] = None
                reasons[percentile] = f"{percentile} needs {fewest} values: {found['n']}"
    return Series(unit=metric.unit, source=source, values=values, **found, reasons=reasons)


def ratios(arm: Mapping[str, Series], dense: Mapping[str, Series]) -> dict[str, Ratio]:
    """An arm's metrics over the dense arm's, for those that both have.

    Exact metrics are compared by their sums, all others by their medians; each ratio has a 95% confidence
    interval, or the reason why it has none.
    """
    found = {}
    for name in arm:
        if name not in dense or METRICS[name].shared:
            continue
        if METRICS[name].kind is Kind.EXACT:
            ours, theirs = ([value for item in side[name].values for value in item] for side in (arm, dense))
            quotient = ratio_of_sums(ours, theirs)
        else:
            quotient = ratio_of_percentiles(_answers(arm, name), _answers(dense, name), 50)
        if quotient is not None:
            found[name] = _ratio(quotient)
    return found


def percentile_ratios(
    arm: Mapping[str, Series], dense: Mapping[str, Series]
) -> dict[str, dict[Percentile, Ratio]]:
    """The p90, p95 and p99 of an arm's latencies over the dense arm's, for those that both know."""
    found: dict[str, dict[Percentile, Ratio]] = {}
    for name in (name for name in LATENCIES if name in arm and name in dense):
        for percentile in PERCENTILES:
            if getattr(arm[name], percentile) is None or getattr(dense[name], percentile) is None:
                continue
            sides = _answers(arm, name), _answers(dense, name)
            if (quotient := ratio_of_percentiles(*sides, int(percentile[1:]))) is not None:
                found.setdefault(name, {})[percentile] = _ratio(quotient)
    return found


def _answers(side: Mapping[str, Series], name: str) -> list[list[Number]]:
    """A metric's values, those of one pass in one round together: a single one, or all gaps of an answer."""
    values = side[name].values
    each = len(values[0]) // len(side["e2e"].values[0]) if name == "itl" else 1
    return [one[at : at + each] for one in values for at in range(0, len(one), each)]


def _ratio(quotient: Quotient) -> Ratio:
    return Ratio(
        value=quotient.value,
        low=quotient.low,
        high=quotient.high,
        confidence=CONFIDENCE,
        reasons={end: quotient.reason for end in ("low", "high") if quotient.reason},
    )


def _once(values: Sequence[Number]) -> list[list[Number]]:
    """One value an item: what no repetition would change, or what was measured once."""
    return [[value] for value in values]


def _flops(part: Callable[[Flops], int]) -> Measure:
    """FLOPs of a part, or why no part's are known: a number that lacks a kernel would be too low."""

    def measure(values: ArmValues) -> list[list[Number]] | str:
        counted = [flops for flops in values.flops if flops is not None]
        if len(counted) < len(values.flops):
            return passes.uncounted(values.attention)
        unseen = sorted({name for flops in counted for name in flops.unknown})
        return passes.uncounted(", ".join(unseen)) if unseen else _once([part(flops) for flops in counted])

    return measure


def _time(name: str) -> Measure:
    def measure(values: ArmValues) -> list[list[Number]] | str:
        rounds = [[getattr(times, name) for times in item] for item in values.times]
        few = any(value is None for item in rounds for value in item)
        return _NOTHING_FOLLOWS if few else rounds

    return measure


def _gaps(values: ArmValues) -> list[list[Number]] | str:
    """Every gap of every round, pass by pass."""
    found: list[list[Number]] = [[gap for times in rounds for gap in times.itl] for rounds in values.times]
    return found if all(found) else _NOTHING_FOLLOWS


def _goodput(values: ArmValues) -> list[list[Number]] | str:
    """Of each round, over all its passes: requests that met every objective, per second."""
    if not values.slo:
        return "there are no objectives: --slo names them"
    rounds = list(zip(*values.times, strict=True))
    met = [sum(one.requests for one in whole if one.meets(values.slo)) for whole in rounds]
    return [[good / sum(one.e2e for one in whole) for good, whole in zip(met, rounds, strict=True)]]


def _peak(key: str) -> Measure:
    """GPU memory or energy; unknown for all items where it is unknown for one."""

    def measure(values: ArmValues) -> list[list[Number]] | str:
        if reasons := [peaks.reasons[key] for peaks in values.memory if key in peaks.reasons]:
            return reasons[0]
        found = [peaks.energy if key == "energy" else peaks.peaks[key] for peaks in values.memory]
        return _once([value for value in found if value is not None])

    return measure


MEASURES: dict[str, Measure] = {
    "visual_tokens_per_layer": lambda values: _once(values.visual),
    "vision_flops": _flops(lambda flops: flops.vision),
    "prefill_flops": _flops(lambda flops: flops.prefill + flops.scoring),
    "scoring_flops": _flops(lambda flops: flops.scoring),
    "decode_flops": _flops(lambda flops: flops.decode),
    "kv_prefill": lambda values: _once([caches.prefill.total_bytes for caches in values.caches]),
    "kv_end": lambda values: _once([caches.end.total_bytes for caches in values.caches]),
    **{name: _time(name) for name in ("ttft", "vision", "prefill", "tpot", "e2e", "decode")},
    "itl": _gaps,
    "output_rate": _time("output_rate"),
    "request_rate": _time("request_rate"),
    "goodput": _goodput,
    "agreement": lambda values: _once([int(agrees) for agrees in values.agrees]),
    "preprocess": lambda values: [list(seconds) for seconds in values.preprocess],
    "torch_peak_allocated": _peak("allocated"),
    "torch_peak_reserved": _peak("reserved"),
    "nvml_process_peak": _peak("process"),
    "nvml_device_peak": _peak("device"),
    "energy": _peak("energy"),
}
"""The function that measures each metric of an arm: a list for each item, or why it is not known."""
_COUNTED: dict[str, Source] = {"visual_tokens_per_layer": "counted", "agreement": "counted"}
