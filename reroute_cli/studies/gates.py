"""Gates: what `--gate METRIC[.STAT]:LIMIT` means. "Worse by more than LIMIT" is a regression.

METRIC is a name of `METRICS`, or `answers`: how many answers differ from the baseline's. STAT is one of
`Stat`, `ratio` being that of p50; without one, exact metrics are compared value by value and all others by
p50. LIMIT is relative
(`10%`) or absolute (`5ms`, `64MiB`, a plain number in the metric's base unit); 0 is exact. A gate judges one
number beside another, or an item at a time. Knows parts of reports; no files.
"""

from __future__ import annotations

import difflib
import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any

from reroute_cli.console.errors import UsageError
from reroute_cli.records.comparison import (
    COUNT,
    EACH,
    ItemChanges,
    LargestChange,
    Row,
    Verdict,
    relative_change,
)
from reroute_cli.records.metrics import GOODPUT, LATENCIES, METRICS, Better, Kind, Level, Metric
from reroute_cli.records.report import PERCENTILES, ArmPart, Measured, Percentile
from reroute_cli.studies.comparable import some

ANSWERS = "answers"
GATED: dict[str, Metric] = METRICS | {
    ANSWERS: Metric("answers changed", "answers", Kind.EXACT, "answers that differ from the baseline's")
}
_SECONDS = {"s": Fraction(1), "ms": Fraction(1, 10**3), "us": Fraction(1, 10**6), "µs": Fraction(1, 10**6)}
_FLOPS = {
    f"{prefix}FLOPs": Fraction(1000**power) for power, prefix in enumerate(("", "K", "M", "G", "T", "P"))
}
_BYTES = {unit: Fraction(1024**power) for power, unit in enumerate(("B", "KiB", "MiB", "GiB", "TiB"))}
_JOULES = {"J": Fraction(1), "mJ": Fraction(1, 10**3), "kJ": Fraction(10**3)}
UNITS: dict[str, dict[str, Fraction]] = {
    "s": _SECONDS,
    "FLOPs": _FLOPS,
    "bytes": _BYTES,
    "J": _JOULES,
    "tokens": {"tokens": Fraction(1)},
    "tokens/s": {"tokens/s": Fraction(1)},
    "requests/s": {"requests/s": Fraction(1)},
    "answers": {"answers": Fraction(1)},
    "share": {},
}
FORM = "METRIC[.STAT]:LIMIT, as in ttft.p50:10% or kv_end:1MiB"
_GATE = re.compile(r"(?P<metric>[^:.]*)(?:\.(?P<stat>[^:]*))?:(?P<limit>.*)", re.DOTALL)
_LIMIT = re.compile(
    r"(?P<sign>[+-]?)(?P<number>(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,2})?) ?"
    r"(?P<unit>[^0-9 ].*)?"
)
RENAMED = {"visual_tokens": "visual_tokens_per_layer"}  # names of older releases
Number = int | float
ROUNDING = Fraction(1, 10**9)
_VERDICTS = {1: Verdict.REGRESSION, -1: Verdict.WIN, 0: Verdict.OK}


class Stat(StrEnum):
    """Which number of a metric a gate looks at. RATIO: the arm's p50 over dense's, measured in one run."""

    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    P50 = "p50"
    P90 = "p90"
    P95 = "p95"
    P99 = "p99"
    RATIO = "ratio"
    P90_RATIO = "p90.ratio"
    P95_RATIO = "p95.ratio"
    P99_RATIO = "p99.ratio"

    @property
    def is_ratio(self) -> bool:
        """Whether it is a ratio to dense."""
        return self.value.endswith("ratio")

    @property
    def percentile(self) -> Percentile | None:
        """Of which percentile it is the ratio; None where it is no such ratio."""
        return next((one for one in PERCENTILES if self.value == f"{one}.ratio"), None)


@dataclass(frozen=True)
class Limit:
    """How much worse is still accepted: a share of the baseline's value where relative, else base units."""

    amount: Fraction
    relative: bool
    text: str

    def allowed(self, baseline: int | float) -> Fraction:
        """The room around this value of the baseline, in base units."""
        return abs(Fraction(baseline)) * self.amount if self.relative else self.amount


@dataclass(frozen=True)
class Gate:
    """One gate. stat: None compares value by value. given: typed, and not one of the defaults."""

    metric: str
    stat: Stat | None
    limit: Limit
    given: bool = True

    @property
    def name(self) -> str:
        """'ttft.p50', or 'kv_end' where it compares value by value."""
        return self.metric if self.stat is None else f"{self.metric}.{self.stat}"

    @property
    def of(self) -> Metric:
        """What is gated."""
        return GATED[self.metric]

    @property
    def needs_same_machine(self) -> bool:
        """Times and memory themselves mean something on one machine only; their ratio travels."""
        return self.of.kind is not Kind.EXACT and not self.is_ratio

    @property
    def is_ratio(self) -> bool:
        """Whether it looks at a ratio to dense, which the dense arm has not."""
        return self.stat is not None and self.stat.is_ratio


EXACT = Limit(Fraction(0), relative=False, text="0")


def default_gates() -> list[Gate]:
    """Every exact metric and the answers, exactly: what no machine may change."""
    return [
        Gate(name, None, EXACT, given=False) for name, metric in GATED.items() if metric.kind is Kind.EXACT
    ]


def all_gates(texts: Iterable[str]) -> list[Gate]:
    """The gates that were typed, each once, and the default ones of all other metrics (raises UsageError).

    A typed ratio is a number of its own and replaces nothing.
    """
    given = dict.fromkeys(map(parse_gate, texts))
    decided = {gate.metric for gate in given if not gate.is_ratio}
    return [*(gate for gate in default_gates() if gate.metric not in decided), *given]


def parse_gate(text: str) -> Gate:
    """One `--gate` as typed (raises UsageError: what was given, what is allowed)."""
    found = _GATE.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"--gate '{text}' has no limit: the form is {FORM}")
    name = RENAMED.get(found["metric"], found["metric"])
    if name not in GATED:
        close = difflib.get_close_matches(name, GATED, n=1)
        hint = f"did you mean '{close[0]}'? There are" if close else "choose one of"
        raise UsageError(f"--gate '{text}': there is no metric '{name}': {hint} {', '.join(GATED)}")
    metric, typed = GATED[name], found["stat"]
    if typed is None:
        stat = None if metric.kind is Kind.EXACT else Stat.P50
    elif name == ANSWERS:
        raise UsageError(f"--gate '{text}': {ANSWERS} is one count and has no '.{typed}': write {ANSWERS}:N")
    elif typed not in set(Stat):
        allowed = ", ".join(Stat)
        raise UsageError(f"--gate '{text}': there is no statistic '{typed}': choose one of {allowed}")
    else:
        stat = Stat(typed)
        if stat.is_ratio and metric.level is Level.RUN:
            raise UsageError(f"--gate '{text}': {name} belongs to the whole run and has no ratio to dense")
        if stat.percentile and name not in LATENCIES:
            having = ", ".join(LATENCIES)
            raise UsageError(f"--gate '{text}': {name} has no ratio of {stat.percentile}: only {having} have")
    return Gate(name, stat, _limit(text, metric, stat, found["limit"].strip()))


def _limit(text: str, metric: Metric, stat: Stat | None, limit: str) -> Limit:
    units = {} if stat is not None and stat.is_ratio else UNITS[metric.unit]
    found = _LIMIT.fullmatch(limit)
    unit = (found["unit"] or "") if found else ""
    if found is None or (unit and unit != "%" and unit not in units):
        allowed = ["10%", "a plain number", *(f"5{unit}" for unit in units)]
        raise UsageError(f"--gate '{text}': '{limit}' is no limit here: write {', '.join(allowed)}")
    amount = Fraction(found["number"])
    if found["sign"] == "-" and amount:
        raise UsageError(f"--gate '{text}': a limit of {limit} is negative: give 0 (exact) or more")
    if unit != "%":
        return Limit(amount * units.get(unit, 1), relative=False, text=limit)
    if metric.unit == ANSWERS and amount:
        raise UsageError(f"--gate '{text}': {ANSWERS} counts from zero, so {limit} is nothing: give a number")
    return Limit(amount / 100, relative=True, text=limit)


@dataclass(frozen=True)
class ComparedPart:
    """One arm, or with `arm` None the whole run, as it is in both reports.

    pairs: baseline's and current's index of every item that both have; ids: their names. lost: the baseline
    has items that the current report lacks. same_machine: both reports are from one.
    """

    arm: str | None
    old: Measured
    new: Measured
    pairs: Sequence[tuple[int, int]]
    ids: Sequence[str]
    lost: bool
    same_machine: bool


def judge(pair: ComparedPart, gate: Gate) -> Row:
    """The row of one gate: its number is worse by more than the limit, better by more, or neither."""
    if gate.metric == ANSWERS:  # how many are not the baseline's: fewer than none can't be, so none is a win
        old, new = pair.old, pair.new
        assert isinstance(old, ArmPart) and isinstance(new, ArmPart), "only an arm has answers"  # noqa: PT018
        changed = sum(old.items[i].answer != new.items[j].answer for i, j in pair.pairs)
        return _row(
            pair,
            ANSWERS,
            COUNT,
            gate=gate,
            baseline=0,
            current=changed,
            items=ItemChanges(total=len(pair.pairs), changed=changed, worse=changed, better=0, largest=None),
            verdict=Verdict.REGRESSION if changed > gate.limit.amount else Verdict.OK,
        )
    if gate.stat is None:
        return _judge_items(pair, gate)
    before, after = (statistic(part, gate.metric, gate.stat) for part in (pair.old, pair.new))
    reason = None
    if before is None:
        verdict, reason = Verdict.NOT_GATED, _absence(pair, gate.metric, gate.stat)
    elif after is None:
        verdict, reason = Verdict.MISSING, _absence(pair, gate.metric, gate.stat)
    elif pair.lost:
        verdict, reason = Verdict.MISSING, "items of the baseline are missing"
    else:
        verdict = _VERDICTS[side(gate.limit, gate.of.better, before, after)]
    return _row(
        pair,
        gate.metric,
        gate.stat,
        gate=gate,
        baseline=before,
        current=after,
        verdict=verdict,
        reason=reason,
    )


def show(pair: ComparedPart, metric: str) -> Row:
    """The row of a metric that nothing gates: means of exact metrics, medians of all others.

    What the baseline knows and the current report does not is missing, but for goodput without objectives.
    """
    stat = Stat.MEAN if METRICS[metric].kind is Kind.EXACT else Stat.P50
    before, after = statistic(pair.old, metric, stat), statistic(pair.new, metric, stat)
    gone = before is not None and after is None
    return _row(
        pair,
        metric,
        stat,
        baseline=before,
        current=after,
        verdict=Verdict.MISSING if gone and pair.same_machine and metric != GOODPUT else Verdict.NOT_GATED,
        reason=_absence(pair, metric) if before is None or after is None else None,
    )


def statistic(part: Measured, metric: str, stat: Stat) -> Number | None:
    """One number of a metric; None where it is unknown."""
    if stat.is_ratio:
        if not isinstance(part, ArmPart):
            return None
        tails = part.percentile_ratios.get(metric, {})
        ratio = part.ratios.get(metric) if stat.percentile is None else tails.get(stat.percentile)
        return None if ratio is None else ratio.value
    series = part.metrics.get(metric)
    number: Number | None = None if series is None else getattr(series, stat.value)
    return number


def worst(values: Sequence[Number], better: Better) -> Number:
    """Of the values of one item, the one that a gate looks at."""
    return max(values) if better is Better.LOWER else min(values)


def side(limit: Limit, better: Better, before: Number, after: Number) -> int:
    """1 where `after` is worse than `before` by more than the limit, -1 where better by more, else 0."""
    step = Fraction(after) - Fraction(before)
    if better is Better.HIGHER:
        step = -step
    room = limit.allowed(before)
    if isinstance(before, float) or isinstance(after, float):
        room += ROUNDING * max(abs(Fraction(before)), abs(Fraction(after)))
    return (step > room) - (-step > room)


def _judge_items(pair: ComparedPart, gate: Gate) -> Row:
    """Value by value over the items that both reports have."""
    old, new = pair.old.metrics.get(gate.metric), pair.new.metrics.get(gate.metric)
    if old is None or new is None:
        return _row(
            pair,
            gate.metric,
            EACH,
            gate=gate,
            baseline=old and old.mean,
            current=new and new.mean,
            verdict=Verdict.NOT_GATED if old is None else Verdict.MISSING,
            reason=_absence(pair, gate.metric),
        )
    better = gate.of.better
    found: list[tuple[str, Number, Number]] = []  # an item, its number before and after
    gone: list[str] = []
    for (i, j), name in zip(pair.pairs, pair.ids, strict=True):
        if old.values[i] and j < len(new.values) and new.values[j]:
            found.append((name, worst(old.values[i], better), worst(new.values[j], better)))
        elif old.values[i]:
            gone.append(name)
    sides = [side(gate.limit, better, before, after) for _, before, after in found]
    verdict = Verdict.MISSING if gone else _VERDICTS[1 if 1 in sides else min(sides, default=0)]
    return _row(
        pair,
        gate.metric,
        EACH,
        gate=gate,
        baseline=_mean([before for _, before, _ in found]),
        current=_mean([after for _, _, after in found]),
        items=_item_changes(found, sides, better),
        verdict=verdict,
        reason=f"no value for {some(gone)}" if gone else None,
    )


def _item_changes(found: list[tuple[str, Number, Number]], sides: list[int], better: Better) -> ItemChanges:
    """How many items changed, and the one that did most: among the worse ones, where there are any."""
    moved = [side(EXACT, better, before, after) for _, before, after in found]
    telling = [item for item, beyond in zip(found, sides, strict=True) if beyond == 1]
    telling = telling or [item for item, step in zip(found, moved, strict=True) if step]

    def distance(item: tuple[str, Number, Number]) -> float:
        change = relative_change(item[1], item[2])
        return math.inf if change is None else abs(change)

    largest = max(telling, key=distance, default=None)
    return ItemChanges(
        total=len(found),
        changed=sum(map(bool, moved)),
        worse=sides.count(1),
        better=sides.count(-1),
        largest=largest and LargestChange(id=largest[0], baseline=largest[1], current=largest[2]),
    )


def _mean(values: Sequence[Number]) -> Number | None:
    """The mean, and the integer itself where all are the same one; None of nothing."""
    if not values:
        return None
    return values[0] if len(set(values)) == 1 else statistics.fmean(values)


def _absence(pair: ComparedPart, metric: str, stat: Stat | None = None) -> str:
    """Why a number is missing, in the words of the report that lacks it."""
    for part, whose in ((pair.old, "baseline"), (pair.new, "current report")):
        if reason := why_unknown(part, metric, stat):
            return f"unknown in the {whose}: {reason}"
    return "no ratio to dense"


def why_unknown(part: Measured, metric: str, stat: Stat | None) -> str | None:
    """Why a part does not know a number, in its own words; None where it has none."""
    series = part.metrics.get(metric)
    if series is None or stat is None:
        return part.unknown.get(metric)
    return series.reasons.get(stat.percentile or stat.value)


def _row(pair: ComparedPart, metric: str, stat: str, *, gate: Gate | None = None, **rest: Any) -> Row:
    of = GATED[metric]
    return Row(
        arm=pair.arm,
        metric=metric,
        stat=str(stat),
        unit="×" if stat.endswith(Stat.RATIO) else of.unit,
        better=of.better.value,
        limit=gate.limit.text if gate else None,
        default=gate is not None and not gate.given,
        change=relative_change(rest["baseline"], rest["current"]),
        items=rest.pop("items", None),
        **rest,
    )
