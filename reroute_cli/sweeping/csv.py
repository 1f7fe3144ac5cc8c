"""A sweep as CSV: one row for each number of each arm, in base units.

Scores and their differences to dense, reroute minus prune, costs and what they are of dense's. A cell that a
spreadsheet would take for a formula starts with an apostrophe. Knows records; not units.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from reroute_cli.exports.csv import Cell, safe
from reroute_cli.records.score import DifferencePart
from reroute_cli.records.sweep import SweepArm, SweepReport

ARM = ("arm", "place", "action", "ratio", "budget", "visual_tokens_per_layer")
COLUMNS = (*ARM, "kind", "name", "base", "value", "low", "high", "n", "p", "source", "unit", "unknown")


def sweep_csv(report: SweepReport) -> str:
    """The table under its header line."""
    page = io.StringIO()
    writer = csv.writer(page, lineterminator="\n")
    writer.writerow(COLUMNS)
    for arm in report.arms:
        rows = [*_rows(arm), *_pair_rows(report, arm)]
        writer.writerows([safe(cell) for cell in (*_arm(arm), *row)] for row in rows)
    return page.getvalue()


def _arm(arm: SweepArm) -> tuple[Cell, ...]:
    return arm.name, arm.place, arm.action, arm.ratio, arm.budget, arm.visual_tokens_per_layer


def _rows(arm: SweepArm) -> Iterator[tuple[Cell, ...]]:
    """kind, name, base, value, low, high, n, p, source, unit, unknown."""
    if arm.refused is not None:
        yield "refused", *[None] * (len(COLUMNS) - len(ARM) - 2), arm.refused
    for name, score in arm.scores.items():
        yield (
            "score",
            name,
            None,
            score.value,
            score.low,
            score.high,
            score.n,
            None,
            "measured",
            "share",
            None,
        )
    for name, part in arm.to_dense.items():
        yield _difference(name, part)
    for name, cost in arm.costs.items():
        yield "cost", name, None, cost.value, None, None, cost.n, None, cost.source, cost.unit, None
        if cost.ratio_to_dense is not None:
            yield (
                "ratio",
                name,
                "dense",
                cost.ratio_to_dense,
                cost.low,
                cost.high,
                cost.n,
                None,
                cost.source,
                "share",
                None,
            )
    for name, reason in arm.unknown.items():
        yield "cost", name, *[None] * 8, reason


def _pair_rows(report: SweepReport, arm: SweepArm) -> Iterator[tuple[Cell, ...]]:
    """This arm minus the one that prunes, where it reroutes beside one."""
    for pair in report.pairs:
        if pair.reroute == arm.name:
            for name, part in pair.scores.items():
                yield _difference(name, part)


def _difference(name: str, part: DifferencePart) -> tuple[Cell, ...]:
    p = part.mcnemar_p
    return (
        "difference",
        name,
        part.base,
        part.value,
        part.low,
        part.high,
        part.n,
        p,
        "measured",
        "share",
        None,
    )
