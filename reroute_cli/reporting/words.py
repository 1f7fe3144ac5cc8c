"""How a report's arms, values and ratios are written.

Knows metrics and units; not which of them are shown.
"""

from __future__ import annotations

from reroute_cli.console import units
from reroute_cli.console.output import clean
from reroute_cli.metrics import METRICS, Kind
from reroute_cli.records.report import ArmPart, Number, Ratio, Series

LONGEST_NAME = 28
ESTIMATED = "≈"  # before a number that was not measured


def short(text: str, most: int) -> str:
    """Untrusted text on one line, at most so many characters."""
    line = clean(text, one_line=True)
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def title(arm: ArmPart) -> str:
    """'nuwa prune', 'fastv@3+5 reroute', a profile's name, or 'dense'."""
    ending = f"-{arm.action}"
    named = arm.method is not None and arm.name.endswith(ending)
    return short(f"{arm.name.removesuffix(ending)} {arm.action}" if named else arm.name, LONGEST_NAME)


def amount(arm: ArmPart) -> str:
    """' at 0.9', ' at 64 tokens/layer', or nothing under a profile."""
    if arm.ratio is not None:
        return f" at {arm.ratio:g}"
    return "" if arm.budget is None else f" at {arm.budget:g} tokens/layer"


def number(name: str, value: Number | None) -> str:
    """A value of this metric in a scaled unit."""
    unit = METRICS[name].unit
    if value is None:
        return units.UNKNOWN
    if unit == "FLOPs":
        return units.flops(round(value))
    if unit == "bytes":
        return units.size(round(value))
    if unit == "s":
        return units.seconds(value)
    if unit == "tokens":
        return units.tokens(value)
    return f"{value:.1f} {unit}" if unit != "share" else f"{value:.0%}"


def value(arm: ArmPart, name: str) -> str:
    """What a table shows of a metric: 'p50 · p90' of times, the mean over items of all else, or '–'."""
    series = arm.metrics.get(name)
    if series is None:
        return units.UNKNOWN
    if name == "agreement":
        return equal_answers(arm)
    mark = ESTIMATED if series.source == "estimated" else ""
    return mark + _spread(name, series)


def typical(arm: ArmPart, name: str) -> str:
    """A metric's one typical number: the median of a time, the mean over items of all else."""
    return _middle(name, arm.metrics[name]) if name in arm.metrics else units.UNKNOWN


def _spread(name: str, series: Series) -> str:
    """'p50 · p90' of a time, else its one typical number."""
    if METRICS[name].unit == "s":
        return f"{number(name, series.p50)} · {number(name, series.p90)}"
    return _middle(name, series)


def _middle(name: str, series: Series) -> str:
    return number(name, series.p50 if METRICS[name].kind is Kind.TIMED else series.mean)


def equal_answers(arm: ArmPart) -> str:
    """'13/14': answers that are those of the dense arm."""
    return f"{sum(item.agrees for item in arm.items)}/{len(arm.items)}"


def quotient(ratio: Ratio | None) -> str:
    """'0.42× [0.40, 0.45]'; without brackets where nothing varies or there is no interval."""
    if ratio is None:
        return units.UNKNOWN
    if ratio.low is None or ratio.high is None or ratio.low == ratio.high:
        return f"{ratio.value:.2f}×"
    return f"{ratio.value:.2f}× [{ratio.low:.2f}, {ratio.high:.2f}]"
