"""A report as CSV: one row for each metric of each arm, in base units, and the process's own at the end.

A cell that a spreadsheet would take for a formula starts with an apostrophe. Knows records; not units.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from reroute_cli.console.output import clean
from reroute_cli.metrics import METRICS
from reroute_cli.records.report import ArmPart, Measured, Report

_STATISTICS = ("n", "mean", "std", "min", "p50", "p90", "p95", "p99", "max")
COLUMNS = ("arm", "metric", "unit", "source", *_STATISTICS, "ratio", "ratio_low", "ratio_high", "unknown")
PROCESS = "(process)"
_FORMULA = ("=", "+", "-", "@")

Cell = str | int | float | None


def report_csv(report: Report) -> str:
    """The table under its header line; what is unknown is an empty cell, and the last column says why."""
    page = io.StringIO()
    writer = csv.writer(page, lineterminator="\n")
    writer.writerow(COLUMNS)
    for name, part in (*((arm.name, arm) for arm in report.arms), (PROCESS, report.process)):
        writer.writerows([safe(cell) for cell in row] for row in _rows(name, part))
    return page.getvalue()


def safe(cell: Cell) -> Cell:
    """Text that no spreadsheet computes: numbers stay numbers."""
    if not isinstance(cell, str):
        return cell
    text = clean(cell, one_line=True)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _rows(arm: str, part: Measured) -> Iterator[list[Cell]]:
    ratios = part.ratios if isinstance(part, ArmPart) else {}
    for name, metric in METRICS.items():
        if series := part.metrics.get(name):
            ratio = ratios.get(name)
            numbers = [getattr(series, statistic) for statistic in _STATISTICS]
            quotient = [None] * 3 if ratio is None else [ratio.value, ratio.low, ratio.high]
            yield [arm, name, series.unit, series.source, *numbers, *quotient, None]
        elif reason := part.unknown.get(name):
            yield [arm, name, metric.unit, None, *[None] * (len(_STATISTICS) + 3), reason]
