"""Measured values as the metrics of one arm: each becomes a series, or unknown with its reason.

Knows METRICS' names and what passes return; not arms, schedules or reports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from reroute_cli import run
from reroute_cli.measure.flops import Flops
from reroute_cli.metrics import METRICS, OF_ARMS, Kind
from reroute_cli.profiling.loop import Caches
from reroute_cli.records.base import Source
from reroute_cli.records.report import Number, Ratio, Series
from reroute_cli.stats import CONFIDENCE, ratio_of_medians, ratio_of_sums, summarise


@dataclass(frozen=True)
class ArmValues:
    """What was measured of one arm, item by item. times[item][round], preprocess[item][round]."""

    attention: str
    visual: Sequence[float]
    agrees: Sequence[bool]
    flops: Sequence[Flops | None]
    caches: Sequence[Caches]
    memory: Sequence[run.MemoryPass]
    times: Sequence[Sequence[run.Times]]
    preprocess: Sequence[Sequence[float]]


Known = dict[str, Series]
Unknown = dict[str, str]
Measure = Callable[[ArmValues], list[list[Number]] | str]


def arm_series(values: ArmValues) -> tuple[Known, Unknown]:
    """Every metric of an arm, in one of the two: measured, or unknown with the reason."""
    known, unknown = {}, {}
    for name in OF_ARMS:
        found = MEASURES[name](values)
        if isinstance(found, str):
            unknown[name] = found
        else:
            known[name] = series(name, found, _COUNTED.get(name, "measured"))
    return known, unknown


def series(name: str, values: list[list[Number]], source: Source = "measured") -> Series:
    """A metric's values with their statistics."""
    summary = summarise([value for item in values for value in item])
    reasons = {"std": "one value does not vary"} if summary.std is None else {}
    return Series(unit=METRICS[name].unit, source=source, values=values, **asdict(summary), reasons=reasons)


def ratios(arm: Mapping[str, Series], dense: Mapping[str, Series]) -> dict[str, Ratio]:
    """An arm's metrics over the dense arm's, for those that both have."""
    found = {}
    for name in arm:
        if name in dense and not METRICS[name].shared:
            divide = ratio_of_sums if METRICS[name].kind is Kind.EXACT else ratio_of_medians
            if (one := divide(_flat(arm[name]), _flat(dense[name]))) is not None:
                reasons = {end: one.reason for end in ("low", "high") if one.reason}
                found[name] = Ratio(
                    value=one.value, low=one.low, high=one.high, confidence=CONFIDENCE, reasons=reasons
                )
    return found


def _flat(measured: Series) -> list[Number]:
    return [value for item in measured.values for value in item]


def _once(values: Sequence[Number]) -> list[list[Number]]:
    """One value an item: what no repetition would change, or what was measured once."""
    return [[value] for value in values]


def _flops(part: Callable[[Flops], int]) -> Measure:
    """FLOPs of a part, or why no part's are known: a number that lacks a kernel would be too low."""

    def measure(values: ArmValues) -> list[list[Number]] | str:
        counted = [flops for flops in values.flops if flops is not None]
        if len(counted) < len(values.flops):
            return run.uncounted(values.attention)
        unseen = sorted({name for flops in counted for name in flops.unknown})
        return run.uncounted(", ".join(unseen)) if unseen else _once([part(flops) for flops in counted])

    return measure


def _time(name: str) -> Measure:
    def measure(values: ArmValues) -> list[list[Number]] | str:
        rounds = [[getattr(times, name) for times in item] for item in values.times]
        few = any(value is None for item in rounds for value in item)
        return "there is only one new token" if few else rounds

    return measure


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
    **{name: _time(name) for name in ("ttft", "vision", "prefill", "tpot", "e2e", "decode", "output_rate")},
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
