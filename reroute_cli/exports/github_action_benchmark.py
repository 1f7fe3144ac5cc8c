"""A report for github-action-benchmark: `customSmallerIsBetter`, and `customBiggerIsBetter`.

A JSON array of {name, unit, value, range, extra}, as in
https://github.com/benchmark-action/github-action-benchmark#examples. One file holds one direction, so each
export leaves the metrics of the other direction out. Values are in base units; exact metrics are means, all
others medians.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reroute_cli.console.output import clean, to_json
from reroute_cli.metrics import METRICS, Better, Kind
from reroute_cli.records.report import Measured, Ratio, Report, Series


def export(report: Report) -> str:
    """The metrics that are better when smaller."""
    return to_json(list(_entries(report, Better.LOWER))) + "\n"


def export_bigger(report: Report) -> str:
    """The metrics that are better when bigger."""
    return to_json(list(_entries(report, Better.HIGHER))) + "\n"


def _entries(report: Report, better: Better) -> Iterator[dict[str, Any]]:
    model = clean(report.workload.model.id, one_line=True)
    for arm in report.arms:
        prefix = f"{model} / {clean(arm.name, one_line=True)}"
        yield from _measured(prefix, arm, better)
        for name, ratio in arm.ratios.items():
            if METRICS[name].better is better and METRICS[name].kind is not Kind.EXACT:
                yield _ratio(f"{prefix} / {name} ratio", name, ratio)
    yield from _measured(f"{model} / run", report.process, better)


def _measured(prefix: str, part: Measured, better: Better) -> Iterator[dict[str, Any]]:
    for name, metric in METRICS.items():
        if name in part.metrics and metric.better is better:
            yield _series(f"{prefix} / {name}", name, part.metrics[name])


def _series(title: str, name: str, series: Series) -> dict[str, Any]:
    exact = METRICS[name].kind is Kind.EXACT
    entry: dict[str, Any] = {
        "name": title,
        "unit": series.unit,
        "value": series.mean if exact else series.p50,
    }
    if series.std is not None and not exact:
        entry["range"] = f"± {series.std:.4g}"
    what = "mean" if exact else "median"
    return entry | {"extra": f"{METRICS[name].label}, {what} of {series.n}, {series.source}"}


def _ratio(title: str, name: str, ratio: Ratio) -> dict[str, Any]:
    entry = {"name": title, "unit": "× dense", "value": ratio.value}
    said = f"{METRICS[name].label}, over dense in one run"
    if ratio.low is None or ratio.high is None:
        return entry | {"extra": said}
    interval = f"{ratio.low:.4g} to {ratio.high:.4g}"
    return entry | {"range": interval, "extra": f"{said}, {ratio.confidence:.0%} interval"}
