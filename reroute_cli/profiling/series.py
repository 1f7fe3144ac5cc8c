"""Measured values as the metrics of one arm: each becomes a series, or unknown with its reason.

Knows METRICS' names and what passes return; not arms, schedules or reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from reroute_cli.measure import passes
from reroute_cli.measure.flops import Flops
from reroute_cli.measure.stats import CONFIDENCE, Quotient, ratio_of_medians, ratio_of_sums, summarise
from reroute_cli.metrics import METRICS, Kind
from reroute_cli.profiling.loop import Caches
from reroute_cli.records.report import Number, Ratio, Series
from reroute_cli.records.section import Source

_FLOPS = ("vision_flops", "prefill_flops", "scoring_flops", "decode_flops")
_TIMES = ("ttft", "tpot", "e2e", "vision", "prefill", "decode", "output_rate")
_MEMORY = {
    "torch_peak_allocated": "allocated",
    "torch_peak_reserved": "reserved",
    "nvml_process_peak": "process",
    "nvml_device_peak": "device",
}
SHARED = ("preprocess",)  # measured once for all arms: a ratio of it says nothing


@dataclass(frozen=True)
class ArmValues:
    """What was measured of one arm, item by item. times[item][round], preprocess[item][round]."""

    attention: str
    visual: Sequence[float]
    agrees: Sequence[bool]
    flops: Sequence[Flops | None]
    caches: Sequence[Caches]
    memory: Sequence[passes.MemoryPass]
    times: Sequence[Sequence[passes.Times]]
    preprocess: Sequence[Sequence[float]]


Known = dict[str, Series]
Unknown = dict[str, str]


def arm_series(values: ArmValues) -> tuple[Known, Unknown]:
    """Every metric of an arm, in one of the two."""
    known = {
        "visual_tokens": series("visual_tokens", _once(values.visual), "counted"),
        "agreement": series("agreement", _once([int(agrees) for agrees in values.agrees]), "counted"),
        "kv_prefill": series("kv_prefill", _once([caches.prefill.total_bytes for caches in values.caches])),
        "kv_end": series("kv_end", _once([caches.end.total_bytes for caches in values.caches])),
        "preprocess": series("preprocess", [list(seconds) for seconds in values.preprocess]),
    }
    unknown: Unknown = {}
    for part, reasons in (_flops(values), _times(values), _peaks(values)):
        known |= part
        unknown |= reasons
    return {name: known[name] for name in METRICS if name in known}, unknown


def series(name: str, values: list[list[Number]], source: Source = "measured") -> Series:
    """A metric's values with their statistics."""
    summary = summarise([value for item in values for value in item])
    reasons = {"std": "one value does not vary"} if summary.std is None else {}
    return Series(unit=METRICS[name].unit, source=source, values=values, **asdict(summary), reasons=reasons)


def ratios(arm: Mapping[str, Series], dense: Mapping[str, Series]) -> dict[str, Ratio]:
    """An arm's metrics over the dense arm's, for those that both have."""
    found = {}
    for name in arm:
        if name in dense and name not in SHARED:
            quotient = _quotient(name, _flat(arm[name]), _flat(dense[name]))
            if quotient is not None:
                found[name] = _ratio(quotient)
    return found


def _quotient(name: str, part: list[Number], whole: list[Number]) -> Quotient | None:
    exact = METRICS[name].kind is Kind.EXACT
    return ratio_of_sums(part, whole) if exact else ratio_of_medians(part, whole)


def _ratio(found: Quotient) -> Ratio:
    reasons = {name: found.reason for name in ("low", "high") if found.reason}
    return Ratio(value=found.value, low=found.low, high=found.high, confidence=CONFIDENCE, reasons=reasons)


def _flat(measured: Series) -> list[Number]:
    return [value for item in measured.values for value in item]


def _once(values: Sequence[Number]) -> list[list[Number]]:
    """One value an item: what no repetition would change, or what was measured once."""
    return [[value] for value in values]


def _flops(values: ArmValues) -> tuple[Known, Unknown]:
    """FLOPs of every part, or why none of them is known: a number that lacks a kernel would be too low."""
    counted = [flops for flops in values.flops if flops is not None]
    if len(counted) < len(values.flops):
        return {}, dict.fromkeys(_FLOPS, passes.uncounted(values.attention))
    if unseen := sorted({name for flops in counted for name in flops.unknown}):
        return {}, dict.fromkeys(_FLOPS, passes.uncounted(", ".join(unseen)))
    parts = {
        "vision_flops": [flops.vision for flops in counted],
        "prefill_flops": [flops.prefill + flops.scoring for flops in counted],
        "scoring_flops": [flops.scoring for flops in counted],
        "decode_flops": [flops.decode for flops in counted],
    }
    return {name: series(name, _once(part)) for name, part in parts.items()}, {}


def _times(values: ArmValues) -> tuple[Known, Unknown]:
    known, unknown = {}, {}
    for name in _TIMES:
        rounds = [[getattr(times, name) for times in item] for item in values.times]
        if any(value is None for item in rounds for value in item):
            unknown[name] = "there is only one new token"
        else:
            known[name] = series(name, rounds)
    return known, unknown


def _peaks(values: ArmValues) -> tuple[Known, Unknown]:
    """GPU memory and energy; unknown for all items where it is unknown for one."""
    known, unknown = {}, {}
    for name in (*_MEMORY, "energy"):
        key = _MEMORY.get(name, "energy")
        found = [peaks.energy if key == "energy" else peaks.peaks[key] for peaks in values.memory]
        reasons = [peaks.reasons[key] for peaks in values.memory if key in peaks.reasons]
        if reasons:
            unknown[name] = reasons[0]
        else:
            known[name] = series(name, _once([value for value in found if value is not None]))
    return known, unknown
