"""The run: items in order, gathered into batches, answered, and handed out one record after the other.

A batch that does not fit the device is cut in two and tried again, and the next ones stay that small until
eight of them have fitted; whatever else fails is cut down in the same way to the one item that is to blame.
Knows items and passes; not files, nor what becomes of a record.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

from reroute_cli.batch_inputs import BatchItem
from reroute_cli.batching.costs import CostModel
from reroute_cli.batching.passes import answer_batch, failed
from reroute_cli.batching.prefetch import Waiting
from reroute_cli.batching.prepare import Broken, Entry, Keyed, Ready, Request, entries
from reroute_cli.errors import is_out_of_memory, sentence_of
from reroute_cli.records.answer import AnswerRecord, FailedAnswer

_FITTING = 8  # batches that fit in a row, before larger ones are tried again


@dataclass(frozen=True)
class Outcome:
    """What became of an item; record: None where there was an answer before this run."""

    keyed: Keyed
    record: AnswerRecord | FailedAnswer | None


class BatchSize:
    """How many items go together now: as many as asked, or fewer for a while after one did not fit."""

    def __init__(self, asked: int) -> None:
        self.now = self._asked = asked
        self._fitted = 0

    def fits(self) -> None:
        """A batch of this size went well."""
        self._fitted += 1
        if self._fitted >= _FITTING and self.now < self._asked:
            self.now, self._fitted = min(self._asked, 2 * self.now), 0

    def too_large(self, items: int) -> None:
        """A batch of so many items did not fit."""
        self.now, self._fitted = max(1, min(self.now, (items + 1) // 2)), 0


class BatchRun:
    """One run over items: iterate `outcomes`; `waiting` says how long the device had nothing to do."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._costs = CostModel.of(request.loaded)
        self._size = BatchSize(request.batch_size)
        self.waiting = Waiting()

    def outcomes(self, items: Iterable[BatchItem], is_done: Callable[[str], bool]) -> Generator[Outcome]:
        """What becomes of every item, in the items' order."""
        with closing(entries(self._request, items, is_done, self.waiting)) as made:
            group: list[Entry] = []
            for entry in made:
                if isinstance(entry, Ready) and self._is_full(group, entry):
                    yield from self._answered(group)
                    group = []
                group.append(entry)
                if not any(isinstance(one, Ready) for one in group) or self._count(group) >= self._size.now:
                    yield from self._answered(group)
                    group = []
            yield from self._answered(group)

    def _is_full(self, group: list[Entry], entry: Ready) -> bool:
        """Whether the next item can't join: there is no room, or it runs under another schedule."""
        ready = [one for one in group if isinstance(one, Ready)]
        return bool(ready) and (len(ready) >= self._size.now or ready[-1].schedule != entry.schedule)

    @staticmethod
    def _count(group: list[Entry]) -> int:
        return sum(isinstance(entry, Ready) for entry in group)

    def _answered(self, group: list[Entry]) -> Iterator[Outcome]:
        """The outcomes of a group, in its order."""
        answers = self._answers([entry for entry in group if isinstance(entry, Ready)], 0)
        for entry in group:
            if isinstance(entry, Ready):
                yield Outcome(entry.keyed, next(answers))
            elif isinstance(entry, Broken):
                yield Outcome(entry.keyed, failed(self._request, entry))
            else:
                yield Outcome(entry, None)

    def _answers(self, items: list[Ready], halvings: int) -> Iterator[AnswerRecord | FailedAnswer]:
        """A record for each item; each half is handed out before the next one is tried."""
        if not items:
            return
        made = self._attempt(items, halvings)
        if isinstance(made, list):
            yield from made
            return
        if len(items) == 1:
            yield failed(self._request, Broken(items[0].keyed, made.sentence))
            return
        middle = (len(items) + 1) // 2
        for half in (items[:middle], items[middle:]):
            yield from self._answers(half, halvings + made.out_of_memory)

    def _attempt(self, items: list[Ready], halvings: int) -> list[AnswerRecord] | _Failed:
        """The records, or what went wrong: nothing of a failed pass is alive when this returns."""
        try:
            records = answer_batch(self._request, self._costs, items, halvings)
        except Exception as error:  # noqa: BLE001  one item's failure is a record, not the end of the run
            problem = _Failed(sentence_of(error), is_out_of_memory(error))
        else:
            self._size.fits()
            return list(records)
        if problem.out_of_memory:
            self._size.too_large(len(items))
            _free(self._request.loaded.device)
        return problem


@dataclass(frozen=True)
class _Failed:
    sentence: str
    out_of_memory: bool


def _free(device: str) -> None:
    """Give what a failed pass left behind back to the device."""
    gc.collect()
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()
