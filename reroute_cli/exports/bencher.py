"""A report in the Bencher Metric Format: {benchmark: {measure: {value, lower_value, upper_value}}}.

https://bencher.dev/docs/reference/bencher-metric-format, schema https://bencher.dev/bmf.json. A benchmark is
an arm of a model, a measure is a metric under its own name (`ttft_ratio` for its ratio to dense). Values are
in base units: exact metrics as means, others as medians between their smallest and largest value.
"""

from __future__ import annotations

from reroute_cli.console.output import clean, to_json
from reroute_cli.metrics import METRICS, Kind
from reroute_cli.records.report import ArmPart, Measured, Ratio, Report

Number = int | float
Measures = dict[str, dict[str, Number]]


def export(report: Report) -> str:
    """The report as Bencher Metric Format JSON."""
    model = clean(report.workload.model.id, one_line=True)
    benchmarks = {f"{model} / {clean(arm.name, one_line=True)}": _arm(arm) for arm in report.arms}
    return to_json({**benchmarks, model: _measured(report.process)}) + "\n"


def _arm(arm: ArmPart) -> Measures:
    return _measured(arm) | {f"{name}_ratio": _ratio(ratio) for name, ratio in arm.ratios.items()}


def _ratio(ratio: Ratio) -> dict[str, Number]:
    """A ratio within its interval, where there is one."""
    bounds = {"lower_value": ratio.low, "upper_value": ratio.high}
    return {"value": ratio.value} | {name: bound for name, bound in bounds.items() if bound is not None}


def _measured(part: Measured) -> Measures:
    found: Measures = {}
    for name, metric in METRICS.items():
        series = part.metrics.get(name)
        if series is not None and metric.kind is Kind.EXACT:
            found[name] = {"value": series.mean}
        elif series is not None:
            found[name] = {"value": series.p50, "lower_value": series.min, "upper_value": series.max}
    return found
