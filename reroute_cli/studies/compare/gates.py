"""Gates: what `--gate METRIC[.STAT]:LIMIT` means. "Worse by more than LIMIT" is a regression.

METRIC is a name of `METRICS`, or `answers`: how many answers differ from the baseline's. STAT is one of
`Stat`; without one, exact metrics are compared value by value and all others by p50. LIMIT is relative
(`10%`) or absolute (`5ms`, `64MiB`, a plain number in the metric's base unit); 0 is exact. Knows no reports.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from reroute_cli.console.errors import UsageError
from reroute_cli.records.metrics import METRICS, Kind, Level, Metric


class Stat(StrEnum):
    """Which number of a metric a gate looks at. RATIO: the arm over dense, measured in one run."""

    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    P50 = "p50"
    P90 = "p90"
    P95 = "p95"
    P99 = "p99"
    RATIO = "ratio"


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
    "answers": {"answers": Fraction(1)},
    "share": {},
}
FORM = "METRIC[.STAT]:LIMIT, as in ttft.p50:10% or kv_end:1MiB"

_GATE = re.compile(r"(?P<metric>[^:.]*)(?:\.(?P<stat>[^:]*))?:(?P<limit>.*)", re.DOTALL)
_LIMIT = re.compile(
    r"(?P<sign>[+-]?)(?P<number>(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,2})?) ?"
    r"(?P<unit>[^0-9 ].*)?"
)


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
        return self.of.kind is not Kind.EXACT and self.stat is not Stat.RATIO


RENAMED = {"visual_tokens": "visual_tokens_per_layer"}  # names of older releases
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
    decided = {gate.metric for gate in given if gate.stat is not Stat.RATIO}
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
    elif typed == Stat.RATIO and metric.level is Level.RUN:
        raise UsageError(f"--gate '{text}': {name} belongs to the whole run and has no ratio to dense")
    else:
        stat = Stat(typed)
    return Gate(name, stat, _limit(text, metric, stat, found["limit"].strip()))


def _limit(text: str, metric: Metric, stat: Stat | None, limit: str) -> Limit:
    units = {} if stat is Stat.RATIO else UNITS[metric.unit]
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
