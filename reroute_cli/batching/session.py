"""A whole run: every item's record goes to a file, or to a stream, and all of them into one summary.

Knows record files, runs and summaries; not the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

from reroute_cli.answer import model_part
from reroute_cli.batch_inputs import BatchItem, BatchItems
from reroute_cli.batching.loop import Outcome
from reroute_cli.batching.prefetch import Waiting
from reroute_cli.batching.prepare import Request
from reroute_cli.batching.summary import RunFacts, Tally
from reroute_cli.console.output import Progress, to_line
from reroute_cli.record_file import RecordFile
from reroute_cli.records.batch import BatchSummary


class Run(Protocol):
    """What answers items: `batching.loop.BatchRun` here, `cluster.run.ClusterRun` on many machines.

    workers: processes with a model. waiting: seconds that a model had nothing to do, the mean of all.
    """

    workers: int
    waiting: Waiting

    def outcomes(self, items: Iterable[BatchItem], is_done: Callable[[str], bool]) -> Generator[Outcome]:
        """What becomes of every item, each once, in any order."""


@dataclass
class _Course:
    """What a run has done so far, by its own clock."""

    start: float = field(default_factory=perf_counter)
    answered: int = 0
    resumed: int = 0

    def note(self, outcome: Outcome) -> None:
        """One more item is through."""
        self.resumed += outcome.record is None
        self.answered += outcome.record is not None and outcome.record.error is None

    def facts(self, items: BatchItems, run: Run) -> RunFacts:
        """What only the run knows."""
        seconds = perf_counter() - self.start
        return RunFacts(self.answered, self.resumed, items.skipped, seconds, run.waiting.seconds, run.workers)


def run_into_file(
    run: Run, request: Request, items: BatchItems, file: RecordFile, progress: Progress
) -> BatchSummary:
    """Answer what the file has no answer of; the summary is of all records of these items in it."""
    course, tally = _Course(), Tally()
    mine: dict[str, BatchItem] = {}
    for outcome in _outcomes(run, items, file.is_done, progress):
        mine[keep(outcome, file)] = outcome.item
        course.note(outcome)
    facts = course.facts(items, run)
    for plain in file.records():
        if item := mine.get(plain["key"]):
            tally.add(plain, item)
    return tally.summary(request, model_part(request.loaded), facts)


def keep(outcome: Outcome, file: RecordFile) -> str:
    """Write the record of an outcome, where it has a new one; returns the key that the file knows it by."""
    record = outcome.record
    if record is not None:
        file.append(record.as_dict())
    key = outcome.keys.answer if record is None else record.key
    file.supersede(outcome.keys.failure, key)
    return key


def run_onto_stream(
    run: Run, request: Request, items: BatchItems, write: Callable[[str], None], progress: Progress
) -> BatchSummary:
    """Answer every item and write its record as one line at once."""
    course, tally = _Course(), Tally()
    for outcome in _outcomes(run, items, _nothing_is_done, progress):
        assert outcome.record is not None, "nothing is done before a run onto a stream"
        plain: dict[str, Any] = outcome.record.as_dict()
        write(to_line(plain))
        tally.add(plain, outcome.item)
        course.note(outcome)
    return tally.summary(request, model_part(request.loaded), course.facts(items, run))


def _nothing_is_done(_key: str) -> bool:
    return False


def _outcomes(
    run: Run, items: BatchItems, is_done: Callable[[str], bool], progress: Progress
) -> Generator[Outcome]:
    """Every item's outcome; progress advances once it was taken care of."""
    progress.expect(len(items.items))
    with closing(run.outcomes(items.items, is_done)) as outcomes:
        for outcome in outcomes:
            yield outcome
            progress.done()
