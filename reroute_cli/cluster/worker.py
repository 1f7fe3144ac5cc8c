"""A worker: a process with one model that answers tables of items; Ray Data calls it a stateful actor.

It checks that its model is the one that the driver made keys for. It raises nothing: what keeps it from
working at all goes back as a sentence. Knows models, batches and rows; not files of records, nor other
workers.
"""

from __future__ import annotations

import json
import os
import platform
from contextlib import ExitStack
from time import perf_counter
from typing import TYPE_CHECKING

from reroute_cli.cluster.order import LocalChoice, Order, check_settings, check_version, plain
from reroute_cli.cluster.rows import answers_table, items_of, problem_table
from reroute_cli.console.errors import sentence_of
from reroute_cli.models import LoadOptions

if TYPE_CHECKING:
    import pyarrow as pa

    from reroute_cli.batching.loop import BatchRun


class Worker:
    """The actor. One call answers one table, in batches that are cut in two as on one machine.

    order: see order.py.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        self._open = ExitStack()
        self._ended: float | None = None
        self._run: BatchRun | None = None

    def __call__(self, table: pa.Table) -> pa.Table:
        """Answer a table of items with their pictures. The first call loads the model.

        A process that ends while it loads loses a table then, which is counted; one that ends in its
        constructor Ray would begin again and again.
        """
        indices = table["index"].to_pylist()
        try:
            if self._run is None:
                self._run = self._prepared()
            return self._answered(self._run, indices, table)
        except Exception as error:  # noqa: BLE001  what goes wrong with one item is a record: this ends the run
            return problem_table(indices, f"a worker on '{platform.node()}' can't work: {sentence_of(error)}")
        finally:
            self._ended = perf_counter()

    def _answered(self, run: BatchRun, indices: list[int], table: pa.Table) -> pa.Table:
        """The answers; waited: since the last call, for the next table, and within this one for pictures."""
        idle = 0.0 if self._ended is None else perf_counter() - self._ended
        before = run.waiting.seconds
        outcomes = run.outcomes(items_of(table), _nothing_is_done)
        records = [outcome.record for outcome in outcomes if outcome.record is not None]
        shown = [json.dumps(self._local.as_typed(record.as_dict())) for record in records]
        return answers_table(indices, shown, idle + run.waiting.seconds - before)

    def _prepared(self) -> BatchRun:
        """Load the model, once; raises Failure where it is another one than the driver made keys for."""
        import torch

        from reroute_cli.batching.loop import BatchRun
        from reroute_cli.batching.prepare import make_request
        from reroute_cli.models import load, quiet_libraries

        order = self._order
        check_version(order["version"])
        torch.set_num_threads(_threads(order["threads"]))
        self._open.enter_context(quiet_libraries())
        self._local = LocalChoice.of(order)
        loaded = load(LoadOptions(**order["loading"]))
        request = make_request(loaded, [self._local.choice], order["max_new_tokens"], order["batch_size"])
        check_settings(order["settings"], plain(request.asks[0].settings))
        return BatchRun(request)


def _threads(share: int) -> int:
    """Threads of torch: the worker's share of the CPUs, or fewer where the environment says so."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(said)) if said.isdigit() and int(said) else share


def _nothing_is_done(_key: str) -> bool:
    return False
