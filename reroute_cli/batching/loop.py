"""The run: items in order, gathered into batches, answered, and handed out one record after the other.

Where several schedules are asked, each batch goes through all of them before the next one (A B A B). Items
share a pass where their schedules are equal; where those differ from item to item, more items are gathered.

A batch that does not fit the device is cut in two and tried again, and the next ones stay that small until
eight of them have fitted; whatever else fails is cut down in the same way to the one item that is to blame.
Knows items and passes; not files, nor what becomes of a record.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TypeGuard

from reroute_cli.batch_inputs import BatchItem
from reroute_cli.batching.costs import CostModel
from reroute_cli.batching.passes import answer_batch, failed
from reroute_cli.batching.prefetch import Waiting
from reroute_cli.batching.prepare import Broken, Entry, Keyed, Keys, Ready, Request, entries
from reroute_cli.console.errors import is_out_of_memory, sentence_of
from reroute_cli.records.answer import AnswerRecord, FailedAnswer
from routing import Schedule

_FITTING = 8  # batches that fit in a row, before larger ones are tried again
_GATHERED = 4  # batches, at most, of items of several schedules that are sorted into passes together


@dataclass(frozen=True)
class Outcome:
    """What became of an item under one ask, given by its place.

    record: None where there was an answer before this run. digests: of the item's images, see `Keyed`.
    """

    item: BatchItem
    ask: int
    keys: Keys
    record: AnswerRecord | FailedAnswer | None
    digests: tuple[str, ...] = ()


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
        self.now, self._fitted = min(self.now, (items + 1) // 2), 0


class BatchRun:
    """One run over items: iterate `outcomes`; `waiting` says how long the device had nothing to do."""

    workers = 1  # processes with a model

    def __init__(self, request: Request) -> None:
        self._request = request
        self._costs = CostModel.of(request.loaded)
        self._sizes = [BatchSize(request.batch_size) for _ in request.asks]
        self.waiting = Waiting()

    def outcomes(self, items: Iterable[BatchItem], is_done: Callable[[str], bool]) -> Generator[Outcome]:
        """What becomes of every item, batch by batch, ask by ask, each time in the items' order."""
        with closing(entries(self._request, items, is_done, self.waiting)) as made:
            for group in _groups(made, self._request.batch_size):
                for ask in range(len(self._request.asks)):
                    yield from self._under(ask, group)

    def _under(self, ask: int, group: list[Entry]) -> Iterator[Outcome]:
        answers = self._answers(ask, [entry for entry in group if _is_open(entry, ask)])
        for entry in group:
            keyed = entry if isinstance(entry, Keyed) else entry.keyed
            record: AnswerRecord | FailedAnswer | None = None
            if _is_open(entry, ask):
                record = next(answers)
            elif not keyed.keys[ask].done:
                record = failed(self._request, ask, keyed, _reason(entry, ask))
            yield Outcome(keyed.item, ask, keyed.keys[ask], record, keyed.digests)

    def _answers(self, ask: int, items: list[Ready]) -> Iterator[AnswerRecord | FailedAnswer]:
        """A record for each item, in their order. Those of one schedule share passes."""
        sharing: dict[Schedule | str, list[Ready]] = {}
        for item in items:
            sharing.setdefault(item.schedules[ask], []).append(item)
        passes = {schedule: self._sharing(ask, alike) for schedule, alike in sharing.items()}
        for item in items:
            yield next(passes[item.schedules[ask]])

    def _sharing(self, ask: int, items: list[Ready]) -> Iterator[AnswerRecord | FailedAnswer]:
        """A record for each item of one schedule, as many in a pass as fit now."""
        waiting = iter(items)
        while batch := list(islice(waiting, self._sizes[ask].now)):
            yield from self._halved(ask, batch, 0)

    def _halved(self, ask: int, items: list[Ready], halvings: int) -> Iterator[AnswerRecord | FailedAnswer]:
        """A record for each item of a batch; each half is handed out before the next one is tried."""
        made = self._attempt(ask, items, halvings)
        if isinstance(made, list):
            yield from made
            return
        if len(items) == 1:
            yield failed(self._request, ask, items[0].keyed, made.sentence)
            return
        middle = (len(items) + 1) // 2
        for half in (items[:middle], items[middle:]):
            yield from self._halved(ask, half, halvings + made.out_of_memory)

    def _attempt(self, ask: int, items: list[Ready], halvings: int) -> list[AnswerRecord] | _Failed:
        """The records, or what went wrong: nothing of a failed pass is alive when this returns."""
        try:
            records = answer_batch(self._request, ask, self._costs, items, halvings)
        except Exception as error:  # noqa: BLE001  one item's failure is a record, not the end of the run
            problem = _Failed(sentence_of(error), is_out_of_memory(error))
        else:
            self._sizes[ask].fits()
            return list(records)
        if problem.out_of_memory:
            self._sizes[ask].too_large(len(items))
            _free(self._request.loaded.device)
        return problem


def _groups(made: Iterable[Entry], size: int) -> Iterator[list[Entry]]:
    """Entries in order, gathered until a pass of `size` is full, or several where schedules differ."""
    group: list[Entry] = []
    ready: list[Ready] = []
    for entry in made:
        group.append(entry)
        if isinstance(entry, Ready):
            ready.append(entry)
        if not ready or _is_enough(ready, size):
            yield group
            group, ready = [], []
    yield group


def _is_enough(ready: list[Ready], size: int) -> bool:
    """Whether these items fill passes of one schedule, or are as many as are gathered at most."""
    if len(ready) % size:
        return False
    return len(ready) == _GATHERED * size or len({item.schedules for item in ready}) == 1


def _is_open(entry: Entry, ask: int) -> TypeGuard[Ready]:
    """Whether the model is still to answer this item under this ask."""
    if not isinstance(entry, Ready) or entry.keyed.keys[ask].done:
        return False
    return isinstance(entry.schedules[ask], Schedule)


def _reason(entry: Entry, ask: int) -> str:
    """Why an item that has no answer gets none."""
    if isinstance(entry, Ready):
        return str(entry.schedules[ask])
    assert isinstance(entry, Broken)
    return entry.error


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
