"""A whole run: every item's record goes to a file, or to whoever takes it, and all of them into one summary.

Knows record files, runs and summaries; not the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from reroute_cli.console.output import SILENT, StudyProgress
from reroute_cli.run.answer import (
    model_part,
)
from reroute_cli.run.summary import (
    RunFacts,
    Tally,
)

if TYPE_CHECKING:
    from reroute_cli.data.items import Item, Items
    from reroute_cli.records.batch import BatchSummary
    from reroute_cli.records.store import RecordFile
    from reroute_cli.run.batch import (
        Outcome,
    )
    from reroute_cli.run.prepare import (
        BatchRequest,
        Waiting,
    )


class ItemRun(Protocol):
    """What answers items: `run.batch.BatchRun` here, `integrations.ray.run.ClusterRun` on many machines.

    workers: processes with a model. waiting: seconds that a model had nothing to do, the mean of all.
    """

    workers: int
    waiting: Waiting

    def outcomes(self, items: Iterable[Item], is_done: Callable[[str], bool]) -> Generator[Outcome]:
        """What becomes of every item, each once, in any order."""


class _Counts:
    """What a run has done so far, by its own clock."""

    def __init__(self) -> None:
        self.start = perf_counter()
        self.answered = self.resumed = 0

    def note(self, outcome: Outcome) -> None:
        """One more item is through."""
        self.resumed += outcome.record is None
        self.answered += outcome.record is not None and outcome.record.error is None

    def summary(self, tally: Tally, run: ItemRun, request: BatchRequest, items: Items) -> BatchSummary:
        """The summary of the records that were added to the tally, and of this run."""
        seconds = perf_counter() - self.start
        facts = RunFacts(
            self.answered, self.resumed, items.skipped, seconds, run.waiting.seconds, run.workers
        )
        return tally.summary(request, model_part(request.loaded), facts)


def run_items(
    run: ItemRun,
    request: BatchRequest,
    items: Items,
    take: Callable[[dict[str, Any]], None],
    *,
    file: RecordFile | None = None,
    progress: StudyProgress = SILENT,
) -> BatchSummary:
    """Answer every item and sum up the records of all of them.

    Args:
        run: what answers.
        request: what is asked of every item.
        items: what is asked about.
        take: gets the record of every item as plain values: at once, or those of a file at the end.
        file: keeps the records; what it has an answer of is not asked again.
        progress: told of every item.
    """
    counts, tally = _Counts(), Tally()
    mine: dict[str, Item] = {}
    for outcome in _outcomes(run, items, (lambda _: False) if file is None else file.is_done, progress):
        counts.note(outcome)
        if file is not None:
            mine[outcome.keep(file)] = outcome.item
            continue
        assert outcome.record is not None, "nothing is done before a run without a file"
        plain = outcome.record.as_dict()
        take(plain)
        tally.add(plain, outcome.item)
    for plain in () if file is None else file.records():
        if item := mine.get(plain["key"]):
            take(plain)
            tally.add(plain, item)
    return counts.summary(tally, run, request, items)


def _outcomes(
    run: ItemRun, items: Items, is_done: Callable[[str], bool], progress: StudyProgress
) -> Generator[Outcome]:
    """Every item's outcome; progress advances once it was taken care of."""
    progress.expect(len(items.chosen))
    with closing(run.outcomes(items.chosen, is_done)) as outcomes:
        for outcome in outcomes:
            yield outcome
            progress.done()
