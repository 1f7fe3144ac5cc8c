"""`reroute batch FOLDER -Q QUESTION`: a record for every image, kept whatever happens to the run."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from reroute_cli.console.command_options import BatchOutput, BatchRunOptions, ClusterOptions, FolderOptions
from reroute_cli.console.errors import EXIT_FAILURE
from reroute_cli.console.options import ModelOptions, OutputOptions, ScheduleOptions
from reroute_cli.console.output import to_line, write_result

if TYPE_CHECKING:
    from reroute_cli.data.items import Items
    from reroute_cli.records.batch import BatchSummary
    from reroute_cli.run.schedules import ScheduleChoice
    from reroute_cli.run.session import ItemRun


def batch(
    folder: FolderOptions,
    model: ModelOptions,
    schedule: ScheduleOptions,
    run: BatchRunOptions,
    cluster: ClusterOptions,
    output: BatchOutput,
) -> None:
    """Ask about every image of a folder or a manifest: JSON lines, resumable, and a summary on stderr."""
    from reroute_cli.data.items import batch_items
    from reroute_cli.run.schedules import ScheduleChoice

    choice = ScheduleChoice.of(schedule)
    items = batch_items(folder.folder, folder.question, folder.manifest, folder.limit)
    found = _answered(items, model, choice, run, cluster, output)

    from reroute_cli.views.emit import emit

    emit(found, OutputOptions(output=output.summary, quiet=output.quiet, verbose=output.verbose))
    if found.counts.errors:
        raise typer.Exit(EXIT_FAILURE)


def _answered(
    items: Items,
    model: ModelOptions,
    choice: ScheduleChoice,
    run: BatchRunOptions,
    cluster: ClusterOptions,
    output: BatchOutput,
) -> BatchSummary:
    """Everything that needs torch: load the model, or find workers that do, answer, sum up."""
    from reroute_cli.models.load import quiet_libraries
    from reroute_cli.records.store import RecordFile
    from reroute_cli.run.session import run_items

    answering: ItemRun
    with ExitStack() as stack:
        stack.enter_context(quiet_libraries())
        result = output.sink.result
        if cluster.engine == "ray":
            from reroute_cli.integrations.ray.connection import apart

            stdout = stack.enter_context(apart(verbose=output.verbose))
            result = partial(write_result, stdout)
        progress = stack.enter_context(output.sink.progress())
        file = None if output.output is None else stack.enter_context(RecordFile(output.output))
        # another writer was refused before a model is loaded or a cluster asked
        if cluster.engine == "ray":
            from reroute_cli.integrations.ray.run import run_on_cluster

            answering, request = stack.enter_context(run_on_cluster(model, choice, run, cluster, output.sink))
        else:
            from reroute_cli.models.load import load_aloud
            from reroute_cli.run.batch import BatchRun
            from reroute_cli.run.prepare import make_request

            progress.tell("loading the model")
            loaded = load_aloud(model, output.sink, [choice])
            request = make_request(loaded, [choice], run.max_new_tokens, run.batch_size, run.feature_cache)
            answering = BatchRun(request)
        progress.tell("answering")

        def take(record: dict[str, Any]) -> None:
            if file is None:
                result(to_line(record))

        return run_items(answering, request, items, take, file=file, progress=progress)
