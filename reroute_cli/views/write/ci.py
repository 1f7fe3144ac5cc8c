"""What continuous integration reads: JUnit of a comparison, github-action-benchmark and Bencher of a report.

JUnit: one suite an arm, one case a gate, with the elements and attributes that pytest, Ant and Jenkins share
(https://github.com/jenkinsci/xunit-plugin/blob/master/src/main/resources/org/jenkinsci/plugins/xunit/types/model/xsd/junit-10.xsd).
github-action-benchmark: a JSON array of {name, unit, value, range, extra}
(https://github.com/benchmark-action/github-action-benchmark#examples); one file holds one direction, so
each leaves the metrics of the other direction out. Bencher: {benchmark: {measure: {value, lower_value,
upper_value}}} (https://bencher.dev/docs/reference/bencher-metric-format); a benchmark is an arm of a model, a
measure a metric under its own name (`ttft_ratio` for its ratio to dense). Values are in base units: exact
metrics are means, all others medians.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any
from xml.etree import ElementTree

from reroute_cli.console.output import clean, to_json
from reroute_cli.records.comparison import Comparison, Row, Verdict
from reroute_cli.records.metrics import METRICS, Better, Kind
from reroute_cli.records.report import ArmPart, Measured, Report
from reroute_cli.views import comparison as words

Number = int | float
# XML 1.0 allows tab, newline, return and everything from space on but surrogates, U+FFFE and U+FFFF
# (https://www.w3.org/TR/xml/#charsets).
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml_text(text: object) -> str:
    """Text without the characters that XML 1.0 forbids; the XML writer escapes the rest."""
    return _NOT_XML.sub("", clean(str(text)))


def junit(comparison: Comparison) -> str:
    """The comparison as a JUnit document."""
    failed = comparison.failed
    rows = [row for row in comparison.rows if row.limit is not None or row in failed]
    root = ElementTree.Element("testsuites", {"name": "reroute compare"} | _counts(rows, failed))
    for arm, group in groupby(rows, key=lambda row: row.arm):
        _suite(root, xml_text(arm or "run"), list(group), failed, comparison)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def _counts(rows: list[Row], failed: list[Row]) -> dict[str, str]:
    skipped = sum(row.verdict is Verdict.NOT_GATED for row in rows)
    return {
        "tests": str(len(rows)),
        "failures": str(sum(row in failed for row in rows)),
        "errors": "0",
        "skipped": str(skipped),
        "time": "0",
    }


def _suite(
    root: ElementTree.Element, name: str, rows: list[Row], failed: list[Row], comparison: Comparison
) -> None:
    about = {"name": name, "timestamp": xml_text(comparison.current.created)} | _counts(rows, failed)
    suite = ElementTree.SubElement(root, "testsuite", about)
    for row in rows:
        title = f"{row.name} (limit {words.limit(row)})" if row.limit is not None else row.name
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"reroute.{name}", name=xml_text(title), time="0"
        )
        if row in failed:
            message = xml_text(words.failure(row))
            failure = ElementTree.SubElement(case, "failure", type=row.verdict.value, message=message)
            failure.text = message
        elif row.verdict is Verdict.NOT_GATED:
            ElementTree.SubElement(case, "skipped", message=xml_text(row.reason or "unknown in the baseline"))


def github_action_benchmark(report: Report) -> str:
    """The metrics that are better when smaller."""
    return to_json(list(_entries(report, Better.LOWER))) + "\n"


def github_action_benchmark_bigger(report: Report) -> str:
    """The metrics that are better when bigger."""
    return to_json(list(_entries(report, Better.HIGHER))) + "\n"


def _entries(report: Report, better: Better) -> Iterator[dict[str, Any]]:
    model = clean(report.model.id, one_line=True)
    parts: list[tuple[str, Measured]] = [(clean(arm.name, one_line=True), arm) for arm in report.arms]
    for name, part in [*parts, ("run", report.process)]:
        prefix = f"{model} / {name}"
        wanted = [key for key, metric in METRICS.items() if metric.better is better]
        for key in (key for key in wanted if key in part.metrics):
            series, exact = part.metrics[key], METRICS[key].kind is Kind.EXACT
            value = series.mean if exact else series.p50
            entry: dict[str, Any] = {"name": f"{prefix} / {key}", "unit": series.unit, "value": value}
            if series.std is not None and not exact:
                entry["range"] = f"± {series.std:.4g}"
            what = "mean" if exact else "median"
            yield entry | {"extra": f"{METRICS[key].label}, {what} of {series.n}, {series.source}"}
        for key, ratio in (part.ratios if isinstance(part, ArmPart) else {}).items():
            if key in wanted and METRICS[key].kind is not Kind.EXACT:
                entry = {"name": f"{prefix} / {key} ratio", "unit": "× dense", "value": ratio.value}
                said, interval = f"{METRICS[key].label}, over dense in one run", {}
                if ratio.low is not None and ratio.high is not None:
                    said += f", {ratio.confidence:.0%} interval"
                    interval = {"range": f"{ratio.low:.4g} to {ratio.high:.4g}"}
                yield entry | interval | {"extra": said}


def bencher(report: Report) -> str:
    """The report as Bencher Metric Format JSON."""
    model = clean(report.model.id, one_line=True)
    benchmarks = {f"{model} / {clean(arm.name, one_line=True)}": _measures(arm) for arm in report.arms}
    return to_json({**benchmarks, model: _measures(report.process)}) + "\n"


def _measures(part: Measured) -> dict[str, dict[str, Number]]:
    """Means of exact metrics, medians of others between their least and largest, ratios in their interval."""
    found: dict[str, dict[str, Number]] = {}
    for key, metric in METRICS.items():
        series = part.metrics.get(key)
        if series is not None and metric.kind is Kind.EXACT:
            found[key] = {"value": series.mean}
        elif series is not None:
            found[key] = {"value": series.p50, "lower_value": series.min, "upper_value": series.max}
    for key, ratio in (part.ratios if isinstance(part, ArmPart) else {}).items():
        bounds = {"value": ratio.value, "lower_value": ratio.low, "upper_value": ratio.high}
        found[f"{key}_ratio"] = {name: bound for name, bound in bounds.items() if bound is not None}
    return found


NUMBERS: dict[str, Callable[[Report], str]] = {  # of one report, by the names that --format gives them
    "github-action-benchmark": github_action_benchmark,
    "github-action-benchmark-bigger": github_action_benchmark_bigger,
    "bencher": bencher,
}
