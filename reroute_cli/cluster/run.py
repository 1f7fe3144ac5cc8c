"""A run on a cluster: the same outcomes as of `batching.loop.BatchRun`, in the order in which they come.

The driver knows every key before anything is sent and hands out each item's outcome once, whatever workers
did twice. What a lost worker had in hand is asked again, item by item, so that an item which kills its worker
is told from its neighbours. Knows items, keys and records; not files, nor the terminal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from pydantic import ValidationError

from reroute_cli.batch_inputs import BatchItem
from reroute_cli.batching.loop import Outcome
from reroute_cli.batching.passes import failed
from reroute_cli.batching.prefetch import Waiting
from reroute_cli.batching.prepare import Keyed, Request, keyed_items
from reroute_cli.cluster.crew import Crew, Wishes, make_crew
from reroute_cli.cluster.link import Link
from reroute_cli.cluster.order import make_order
from reroute_cli.cluster.rows import Answer, Job
from reroute_cli.cluster.stream import Round, answers
from reroute_cli.console.errors import CliError, Failure
from reroute_cli.models import LoadOptions
from reroute_cli.records.answer import AnyAnswer

_BATCHES = 4  # of a worker's table: the later ones are prepared while the first is answered
_READ_AHEAD = 16  # pictures that are read for their keys before they are asked for
LOGS = "Ray's logs on that node say more (/tmp/ray/session_latest/logs)"
_LOST = f"the worker process ended each time that it was to answer this, out of memory perhaps: {LOGS}"
_Todo = dict[int, Keyed]


@dataclass(frozen=True)
class Plan:
    """What a cluster is asked for: options of loading, and wishes about workers."""

    loading: LoadOptions
    wishes: Wishes


class BrokenOff(Failure):
    """A round ended before its time: too many tables were lost, or the cluster was."""


class ClusterRun:
    """One run over items on a cluster: iterate `outcomes`.

    workers: processes that it was given, 0 while there was nothing to ask them. waiting: seconds that a
    worker's model stood still between its first item and its last, the mean of all.
    request: its model has no weights here, see identity.py. talk: gets a remark when a worker was lost.
    """

    def __init__(self, link: Link, request: Request, plan: Plan, talk: Callable[[str], None]) -> None:
        self._link = link
        self._request = request
        self._plan = plan
        self._talk = talk
        self.workers = 0
        self.waiting = Waiting()

    def outcomes(self, items: Iterable[BatchItem], is_done: Callable[[str], bool]) -> Generator[Outcome]:
        """What becomes of every item: first what needs no model, then the others as they are answered."""
        todo: _Todo = {}
        for index, keyed in enumerate(keyed_items(self._request, items, is_done, _READ_AHEAD)):
            if keyed.done:
                yield Outcome(keyed.item, 0, keyed.keys[0], None)
            elif keyed.error is not None:
                yield self._failed(keyed, keyed.error)
            else:
                todo[index] = keyed
        if todo:
            yield from self._asked(todo)

    def _asked(self, todo: _Todo) -> Iterator[Outcome]:
        """Rounds until everything is answered, or the last items, each for itself, brought nothing."""
        crew = make_crew(self._link.nodes(), self._plan.wishes, self._request.loaded.device)
        size = _table_size(len(todo), crew.workers, self._request.batch_size)
        crew = replace(crew, workers=min(crew.workers, math.ceil(len(todo) / size)))
        self.workers = crew.workers
        while True:
            before = len(todo)
            try:
                yield from self._round(crew, size, todo)
            except BrokenOff:
                if len(todo) == before:
                    raise
            if not todo or (len(todo) == before and size == 1):
                break
            self._talk(f"a worker was lost: {len(todo)} items are asked again, one by one")
            crew, size = crew.left(self._link.nodes()), 1
        for keyed in todo.values():
            yield self._failed(keyed, _LOST)

    def _round(self, crew: Crew, size: int, todo: _Todo) -> Iterator[Outcome]:
        """What comes back of everything that is left; it is no longer left then."""
        order = make_order(self._plan.loading, self._request, crew.cpus)
        made = Round(order, crew, size, in_hand=1 if size == 1 else 2)
        jobs = [Job(index, keyed.item, keyed.digests) for index, keyed in todo.items()]
        with _broken_off(), closing(answers(self._link, made, jobs, self._look(crew))) as coming:
            for answer in coming:
                keyed = todo.pop(answer.index, None)
                if keyed is not None:
                    yield self._outcome(answer, keyed)

    def _look(self, crew: Crew) -> Callable[[], None]:
        """A look at the cluster while nothing comes; raises Failure when it has no room for any worker."""

        def look() -> None:
            crew.left(self._link.nodes())

        return look

    def _outcome(self, answer: Answer, keyed: Keyed) -> Outcome:
        """The item's outcome, under the driver's key: a worker knows nothing of copies in other tables."""
        if answer.problem:
            raise Failure(answer.problem)
        self.waiting.seconds += answer.waited / self.workers
        keys = keyed.keys[0]
        key = keys.answer if answer.record.get("error") is None else keys.failure
        return Outcome(keyed.item, 0, keys, AnyAnswer.model_validate(answer.record | {"key": key}).root)

    def _failed(self, keyed: Keyed, reason: str) -> Outcome:
        return Outcome(keyed.item, 0, keyed.keys[0], failed(self._request, 0, keyed, reason))


def _table_size(items: int, workers: int, batch_size: int) -> int:
    """Rows of a worker's table: several batches, but no more than leave work for every worker."""
    return batch_size * max(1, min(_BATCHES, items // (workers * batch_size)))


@contextmanager
def _broken_off() -> Iterator[None]:
    """What Ray raises in the middle of a round, as one sentence."""
    try:
        yield
    except (CliError, ValidationError):
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        safe = "the records so far are safe, and the same command goes on"
        raise BrokenOff(f"the cluster broke off ({reason}): {safe}; {LOGS}") from error
