"""An evaluation as Markdown for a job summary, and as CSV: one row for each score and each difference.

Knows records and blocks; not units. What a spreadsheet would take for a formula starts with an apostrophe.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from reroute_cli.exports.csv import Cell, safe
from reroute_cli.exports.markdown import blocks_markdown
from reroute_cli.records.evaluation import Evaluation
from reroute_cli.records.score import ScoresPart
from reroute_cli.reporting.evaluation import evaluation_page

COLUMNS = ("arm", "group", "score", "minus", "value", "low", "high", "n", "pictures", "interval")
TESTS = ("only_this", "only_base", "mcnemar_p")


def evaluation_markdown(report: Evaluation, *, verbose: bool = False) -> str:
    """The page as Markdown."""
    return blocks_markdown(evaluation_page(report, verbose=verbose))


def evaluation_csv(report: Evaluation) -> str:
    """The table under its header line; group is empty for all questions, minus for a score itself."""
    page = io.StringIO()
    writer = csv.writer(page, lineterminator="\n")
    writer.writerow((*COLUMNS, *TESTS))
    for arm in report.arms:
        for group, part in (("", arm.overall), *arm.groups.items()):
            writer.writerows([safe(cell) for cell in row] for row in _rows(arm.name, group, part))
    return page.getvalue()


def _rows(arm: str, group: str, part: ScoresPart) -> Iterator[list[Cell]]:
    for name, score in part.scores.items():
        numbers: list[Cell] = [score.value, score.low, score.high, score.n, score.pictures]
        yield [arm, group, name, None, *numbers, score.interval, *[None] * len(TESTS)]
    for differences in (part.to_dense, part.to_prune):
        for name, found in differences.items():
            numbers = [found.value, found.low, found.high, found.n, found.pictures]
            tests = [getattr(found, test) for test in TESTS]
            yield [arm, group, name, found.base, *numbers, "bootstrap", *tests]
