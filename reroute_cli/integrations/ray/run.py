"""A run on a cluster: the same outcomes as of `run.batch.BatchRun`, in the order in which they come.

The driver knows every key before anything is sent and hands out each item's outcome once, whatever workers
did twice. Bytes that it read for the keys go along, as many as it may hold; other files are read again when
their turn comes. What a lost worker had in hand is asked again, item by item, so that an item which kills its
worker is told from its neighbours. A cluster is reached for only where the keys depend on it, or when there
is something to ask. Knows items, keys and records; not files, nor the terminal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import ValidationError

from reroute_cli.console.errors import CliError, Failure
from reroute_cli.integrations.ray.config import make_config
from reroute_cli.integrations.ray.connection import ClusterConnection
from reroute_cli.integrations.ray.pool import WorkerOptions, WorkerPool, device_of, make_pool
from reroute_cli.integrations.ray.stream import Round, answers
from reroute_cli.models.load import choose_device, tell_remarks, without_weights
from reroute_cli.records.answer import AnyAnswer
from reroute_cli.run import prepare
from reroute_cli.run.batch import Outcome, failed
from reroute_cli.run.prepare import BatchRequest, ByteRoom, KeyedItem, Waiting, keyed_items, make_request

if TYPE_CHECKING:
    from reroute_cli.console.command_options import BatchRunOptions, ClusterOptions
    from reroute_cli.console.options import ModelOptions
    from reroute_cli.console.output import Sink
    from reroute_cli.data.items import Item
    from reroute_cli.run.schedules import ScheduleChoice

_BATCHES = 4  # of a worker's table: the later ones are prepared while the first is answered
_READ_AHEAD = 16  # images that are read for their keys before they are asked for
LOGS = "Ray's logs on that node say more (/tmp/ray/session_latest/logs)"
_LOST = f"the worker process ended each time that it was to answer this, out of memory perhaps: {LOGS}"


@contextmanager
def run_on_cluster(
    model: ModelOptions, choice: ScheduleChoice, run: BatchRunOptions, cluster: ClusterOptions, sink: Sink
) -> Iterator[tuple[ClusterRun, BatchRequest]]:
    """A run in the workers of a cluster and what it asks of every item; the cluster is left after the block.

    The request is of a model that has names and no weights. sink: gets its remarks, and a word when a
    worker is lost.
    """
    with ClusterConnection(cluster.ray_address, verbose=sink.verbose) as connection:
        options = WorkerOptions(cluster.workers, cluster.gpus_per_worker)
        options.check(model.device)
        device = model.device
        if connection.address is None:  # the cluster is this machine, whose GPUs torch knows
            device = choose_device(device)
        elif device == "auto":
            device = device_of(device, connection.nodes())
        described = without_weights(model, device)
        request = make_request(described, [choice], run.max_new_tokens, run.batch_size, run.feature_cache)
        tell_remarks(described, sink, [choice])
        yield ClusterRun(connection, request, model, options, sink.talk), request


class BrokenOff(Failure):
    """A round ended before its time: too many tables were lost, or the cluster was."""


class ClusterRun:
    """One run over items on a cluster: iterate `outcomes`.

    workers: processes that it was given, 0 while there was nothing to ask them. waiting: seconds that a
    worker's model stood still between its first item and its last, the mean of all.
    talk: gets a remark when a worker was lost.
    """

    def __init__(
        self,
        connection: ClusterConnection,
        request: BatchRequest,
        loading: ModelOptions,
        options: WorkerOptions,
        talk: Callable[[str], None],
    ) -> None:
        self._connection, self._request, self._talk = connection, request, talk
        self._loading, self._options = loading, options
        self.workers = 0
        self.waiting = Waiting()

    def outcomes(self, items: Iterable[Item], is_done: Callable[[str], bool]) -> Generator[Outcome]:
        """What becomes of every item: first what needs no model, then the others as they are answered."""
        todo: dict[int, KeyedItem] = {}
        room = ByteRoom(prepare.MOST_HELD)
        for index, keyed in enumerate(keyed_items(self._request, items, is_done, _READ_AHEAD, room)):
            if keyed.done:
                room.give(keyed.held)
                yield Outcome(keyed.item.without_data(), 0, keyed.keys[0], None)
            elif keyed.error is not None:
                yield self._failed(keyed, keyed.error)
            else:
                todo[index] = keyed
        if todo:
            yield from self._asked(todo)

    def _asked(self, todo: dict[int, KeyedItem]) -> Iterator[Outcome]:
        """Rounds until everything is answered, or the last items, each for itself, brought nothing."""
        batch_size = self._request.batch_size
        pool = make_pool(self._connection.nodes(), self._options, self._request.loaded.device)
        batches = min(_BATCHES, len(todo) // (pool.workers * batch_size))  # that leave work for every worker
        size = batch_size * max(1, batches)
        pool = replace(pool, workers=min(pool.workers, math.ceil(len(todo) / size)))
        self.workers = pool.workers
        while True:
            before = len(todo)
            try:
                yield from self._round(pool, size, todo)
            except BrokenOff:
                if len(todo) == before:
                    raise
            if not todo or (len(todo) == before and size == 1):
                break
            self._talk(f"a worker was lost: {len(todo)} items are asked again, one by one")
            pool, size = pool.left(self._connection.nodes()), 1
        for keyed in todo.values():
            yield self._failed(keyed, _LOST)

    def _round(self, pool: WorkerPool, size: int, todo: dict[int, KeyedItem]) -> Iterator[Outcome]:
        """What comes back of everything that is left; it is no longer left then."""
        config = make_config(self._loading, self._request, pool.cpus)
        made = Round(config, pool, size, in_hand=1 if size == 1 else 2)

        def look() -> None:  # while nothing comes; raises Failure where there is no room for any worker
            pool.left(self._connection.nodes())

        with _broken_off(), closing(answers(self._connection, made, list(todo.items()), look)) as coming:
            for answer in coming:
                keyed = todo.pop(answer.index, None)
                if keyed is None:
                    continue
                if answer.problem:
                    raise Failure(answer.problem)
                self.waiting.seconds += answer.waited / self.workers
                keys = keyed.keys[0]  # the driver's: a worker knows nothing of copies in other tables
                key = keys.answer if answer.record.get("error") is None else keys.failure
                record = AnyAnswer.model_validate(answer.record | {"key": key}).root
                yield Outcome(keyed.item.without_data(), 0, keys, record)

    def _failed(self, keyed: KeyedItem, reason: str) -> Outcome:
        return Outcome(keyed.item.without_data(), 0, keyed.keys[0], failed(self._request, 0, keyed, reason))


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
