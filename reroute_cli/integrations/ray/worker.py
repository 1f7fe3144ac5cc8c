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

from reroute_cli.console.errors import sentence_of
from reroute_cli.console.options import ModelOptions
from reroute_cli.integrations.ray.config import (
    LocalSchedule,
    WorkerConfig,
    check_settings,
    check_version,
    plain,
)
from reroute_cli.integrations.ray.rows import answers_table, items_of

if TYPE_CHECKING:
    import pyarrow as pa

    from reroute_cli.run.batch import BatchRun


class Worker:
    """The actor. One call answers one table, in batches that are cut in two as on one machine.

    config: see config.py.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._open = ExitStack()
        self._ended: float | None = None
        self._run: BatchRun | None = None

    def __call__(self, table: pa.Table) -> pa.Table:
        """Answer a table of items with their images. The first call loads the model.

        A process that ends while it loads loses a table then, which is counted; one that ends in its
        constructor Ray would begin again and again.
        """
        indices = table["index"].to_pylist()
        try:
            if self._run is None:
                self._run = self._prepared()
            idle = 0.0 if self._ended is None else perf_counter() - self._ended  # since the last call
            before = self._run.waiting.seconds
            outcomes = self._run.outcomes(items_of(table), lambda _: False)
            records = [outcome.record for outcome in outcomes if outcome.record is not None]
            shown = [json.dumps(self._local.as_typed(record.as_dict())) for record in records]
            return answers_table(indices, shown, waited=idle + self._run.waiting.seconds - before)
        except Exception as error:  # noqa: BLE001  what goes wrong with one item is a record: this ends the run
            problem = f"a worker on '{platform.node()}' can't work: {sentence_of(error)}"
            return answers_table(indices, None, problem=problem)
        finally:
            self._ended = perf_counter()

    def _prepared(self) -> BatchRun:
        """Load the model, once; raises Failure where it is another one than the driver made keys for."""
        import torch

        from reroute_cli.models.load import load, quiet_libraries
        from reroute_cli.run.batch import BatchRun
        from reroute_cli.run.prepare import make_request

        config = self._config
        check_version(config["version"])
        said = os.environ.get("OMP_NUM_THREADS", "")  # a share of the CPUs, or fewer where this says so
        threads = min(config["threads"], int(said)) if said.isdigit() and int(said) else config["threads"]
        torch.set_num_threads(threads)
        self._open.enter_context(quiet_libraries())
        self._local = LocalSchedule.of(config)
        loaded = load(ModelOptions(**config["loading"]))
        most, size, cache = (config[name] for name in ("max_new_tokens", "batch_size", "feature_cache"))
        request = make_request(loaded, [self._local.choice], most, size, cache)
        check_settings(config["settings"], plain(request.asks[0].settings))
        return BatchRun(request)
