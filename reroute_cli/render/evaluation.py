"""An evaluation's page in a terminal, and the list of benchmarks. Knows how Rich draws; not what is said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reroute_cli.records.evaluation import Evaluation
from reroute_cli.render.draw import DIM, Page, plain, table
from reroute_cli.render.report import drawn_page
from reroute_cli.reporting.evaluation import evaluation_page

if TYPE_CHECKING:
    from reroute_cli.studies.benchmarks.benchmark import Benchmark


def evaluation_drawn(report: Evaluation, *, verbose: bool = False) -> Page:
    """The page, drawn."""
    return drawn_page(evaluation_page(report, verbose=verbose))


def benchmark_list(benchmarks: Sequence[Benchmark]) -> Page:
    """A row for each benchmark: its name, what it is, its splits (the first is the default), its source."""
    rows = [
        (one.name, one.title, ", ".join(one.splits), one.source or "in the package") for one in benchmarks
    ]
    told = dict.fromkeys(one.notes for one in benchmarks if one.notes)
    notes = [f"{', '.join(one.name for one in benchmarks if one.notes == note)}: {note}" for note in told]
    drawn: Page = [table(("--bench", "questions", "--split", "from"), rows)]
    return [*drawn, *([plain("")] if notes else []), *(plain(note, DIM) for note in notes)]
