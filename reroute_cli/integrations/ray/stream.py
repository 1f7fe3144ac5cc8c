"""Jobs through the cluster by Ray Data: read on the driver's node, answered by workers, streamed back.

What a lost worker had in hand is not tried again here: it does not come back, and the caller asks again. A
worker that Ray puts in its place goes on with what is left. Ray
Data streams with back-pressure, so that a few tables of images are under way at any time, however many
there are. Knows tables, workers and Ray Data; not keys or files.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Any

from reroute_cli.integrations.ray.rows import WorkerAnswer, answers_of, parcels_of, with_pictures
from reroute_cli.integrations.ray.worker import Worker

if TYPE_CHECKING:
    import pyarrow as pa

    from reroute_cli.integrations.ray.config import WorkerConfig
    from reroute_cli.integrations.ray.connection import ClusterConnection
    from reroute_cli.integrations.ray.pool import WorkerPool
    from reroute_cli.run.prepare import KeyedItem

_READERS = 2  # tables of images that are read at once, on the driver's node
_LOOK = 2.0  # seconds without an answer, after which the cluster is looked at
_MOST_LOST = 8  # tables of one round for each worker, after which the round ends: they are lost by themselves
_AHEAD = 8  # tables of answers that wait for the driver, at most


@dataclass(frozen=True)
class Round:
    """One way through the cluster. size: rows of a table. in_hand: tables of a worker at a time."""

    config: WorkerConfig
    pool: WorkerPool
    size: int
    in_hand: int


def answers(
    connection: ClusterConnection,
    made: Round,
    jobs: Sequence[tuple[int, KeyedItem]],
    look: Callable[[], None],
) -> Generator[WorkerAnswer]:
    """Answers as they come, in any order; jobs of a lost worker are not among them.

    look: called whenever nothing came for a while; what it raises ends the round.
    """
    tables: Queue[pa.Table | Exception | None] = Queue(_AHEAD)
    over = threading.Event()
    dataset = _dataset(connection, made, jobs)
    thread = threading.Thread(target=_fill, args=(dataset, tables, over), name="reroute-ray", daemon=True)
    thread.start()
    try:
        while True:
            try:
                found = tables.get(timeout=_LOOK)
            except Empty:
                look()
                continue
            if isinstance(found, Exception):
                raise found
            if found is None:
                break
            yield from answers_of(found)
    except BaseException:  # the thread goes on until it meets the end of Ray, which would be logged at length
        for name, logger in logging.root.manager.loggerDict.items():
            if name.partition(".")[0] == "ray" and isinstance(logger, logging.Logger):
                logger.disabled = True
        raise
    finally:
        over.set()


def _fill(dataset: Any, tables: Queue[pa.Table | Exception | None], over: threading.Event) -> None:
    """Take what comes, in a thread of its own, so that waiting for it can be interrupted."""
    last: Exception | None = None
    try:
        for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            if not _put(tables, table, over):
                return
    except Exception as error:  # noqa: BLE001  raised again in the driver's own thread
        last = error
    _put(tables, last, over)


def _put(tables: Queue[Any], thing: Any, over: threading.Event) -> bool:
    """Hand a thing over, once there is room; False when nobody takes it any more."""
    while not over.is_set():
        try:
            tables.put(thing, timeout=_LOOK)
        except Full:
            continue
        return True
    return False


def _dataset(connection: ClusterConnection, made: Round, jobs: Sequence[tuple[int, KeyedItem]]) -> Any:
    """The plan: nothing of it runs before it is iterated."""
    from ray.data import ActorPoolStrategy, TaskPoolStrategy
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    context = connection.ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = _MOST_LOST * made.pool.workers  # lost tables do not end the round
    if not connection.verbose:  # no tracebacks of lost workers on the terminal
        logging.getLogger("ray.data").setLevel(logging.CRITICAL + 1)
    here = NodeAffinitySchedulingStrategy(connection.own_node(), soft=False)
    pool = ActorPoolStrategy(size=made.pool.workers, max_tasks_in_flight_per_actor=made.in_hand)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what Ray 2.64 will not take any more
        parcels = parcels_of(jobs, made.size)
        dataset = connection.ray.data.from_items(parcels, override_num_blocks=len(parcels)).map_batches(
            with_pictures,
            batch_size=1,
            batch_format="pyarrow",
            compute=TaskPoolStrategy(size=_READERS),
            num_cpus=0,
            scheduling_strategy=here,
        )
        return dataset.map_batches(
            Worker,
            batch_size=made.size,
            batch_format="pyarrow",
            fn_constructor_args=(made.config,),
            compute=pool,
            num_cpus=made.pool.cpus,
            num_gpus=made.pool.gpus or None,
            max_restarts=-1,
            max_task_retries=0,
        )
