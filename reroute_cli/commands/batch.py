"""`reroute batch FOLDER -Q QUESTION`: a record for every picture, kept whatever happens to the run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from reroute_cli import options, run_options
from reroute_cli.cluster import options as cluster_options
from reroute_cli.console.errors import EXIT_FAILURE, Failure
from reroute_cli.console.output import Progress, Sink, check_writable, clean, to_json, write, write_file
from reroute_cli.models import LoadOptions
from reroute_cli.record_file import RecordFile
from reroute_cli.schedules import ScheduleChoice, read_cuts
from reroute_cli.sources import POCKET

if TYPE_CHECKING:
    from reroute_cli.batch_inputs import BatchItems
    from reroute_cli.batching.prepare import Request
    from reroute_cli.batching.session import Run
    from reroute_cli.records.batch import BatchSummary


@dataclass(frozen=True)
class Asked:
    """What the options ask of every item."""

    choice: ScheduleChoice
    max_new_tokens: int
    batch_size: int


@dataclass(frozen=True)
class Cluster:
    """What the options of a cluster say; None where they were not given."""

    address: str | None
    workers: int | None
    gpus_per_worker: float | None


def batch(
    folder: run_options.BatchFolder = None,
    question: run_options.Question = None,
    manifest: run_options.BatchManifest = None,
    limit: run_options.BatchLimit = None,
    model: options.Model = POCKET,
    method: options.Method = None,
    action: options.Action = None,
    ratio: options.Ratio = None,
    budget: options.Budget = None,
    cuts: options.Cuts = None,
    profile: options.Profile = None,
    device: options.Device = "auto",
    dtype: options.Dtype = options.DtypeName.AUTO,
    attn: options.Attn = options.AttnName.SDPA,
    load_format: options.Load = options.LoadFormat.AUTO,
    chat_template: options.ChatTemplate = None,
    batch_size: run_options.BatchSize = 1,
    max_new_tokens: options.MaxNewTokens = 64,
    generation: options.Generation = options.GenerationName.MODEL,
    seed: options.Seed = 0,
    engine: cluster_options.Engine = cluster_options.EngineName.LOCAL,
    ray_address: cluster_options.RayAddress = None,
    workers: cluster_options.Workers = None,
    gpus_per_worker: cluster_options.GpusPerWorker = None,
    output: run_options.Records = None,
    summary: run_options.Summary = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Ask about every picture of a folder or a manifest: JSON lines, resumable, and a summary on stderr."""
    sink = Sink(quiet=quiet, verbose=verbose)
    choice = ScheduleChoice(method, action, ratio, budget, profile, seed, read_cuts(cuts))
    choice.check_profile()
    cluster_options.check_engine(
        engine, ray_address=ray_address, workers=workers, gpus_per_worker=gpus_per_worker
    )
    on_ray = engine is cluster_options.EngineName.RAY
    _check_outputs(output, summary)
    items = _items(folder, question, manifest, limit)
    loading = LoadOptions(
        model, device, dtype, attn, load_format, seed, chat_template, str(generation), quiet
    )
    cluster = Cluster(ray_address, workers, gpus_per_worker) if on_ray else None
    found = _run(sink, loading, items, Asked(choice, max_new_tokens, batch_size), output, cluster)
    if summary is not None:
        write_file(summary, to_json(found.as_dict()) + "\n")
    _show(sink, found)
    if found.counts.errors:
        raise typer.Exit(EXIT_FAILURE)


def _check_outputs(output: Path | None, summary: Path | None) -> None:
    for name, path in (("--output", output), ("--summary", summary)):
        if problem := check_writable(path):
            raise Failure(f"{name}: {problem}")
    if output is not None and summary is not None and output.absolute() == summary.absolute():
        raise Failure(f"--output and --summary both name '{output}': give two files")


def _items(folder: Path | None, question: str | None, manifest: Path | None, limit: int | None) -> BatchItems:
    from reroute_cli.batch_inputs import batch_items

    return batch_items(folder, question, manifest, limit)


def _run(
    sink: Sink,
    loading: LoadOptions,
    items: BatchItems,
    asked: Asked,
    output: Path | None,
    cluster: Cluster | None,
) -> BatchSummary:
    """Everything that needs torch: load the model, or find workers that do, answer, sum up."""
    from reroute_cli.batching.session import run_into_file, run_onto_stream
    from reroute_cli.models import quiet_libraries

    with ExitStack() as stack:
        stack.enter_context(quiet_libraries())
        result = sink.result if cluster is None else _apart(stack, sink)
        progress = stack.enter_context(sink.progress())
        file = None if output is None else stack.enter_context(RecordFile(output))
        # another writer was refused before a model is loaded or a cluster asked
        if cluster is None:
            run, request = _here(sink, loading, asked, progress)
        else:
            run, request = _on_cluster(stack, sink, loading, asked, cluster)
        progress.tell("answering")
        if file is None:
            return run_onto_stream(run, request, items, result, progress)
        return run_into_file(run, request, items, file, progress)


def _here(sink: Sink, loading: LoadOptions, asked: Asked, progress: Progress) -> tuple[Run, Request]:
    """A run in this process."""
    from reroute_cli.batching.loop import BatchRun
    from reroute_cli.batching.prepare import make_request
    from reroute_cli.models import load

    progress.tell("loading the model")
    loaded = load(loading)
    for remark in loaded.remarks:
        sink.talk(remark)
    if caveat := asked.choice.caveat(loaded.family, loaded.layers):
        sink.talk(caveat)
    request = make_request(loaded, [asked.choice], asked.max_new_tokens, asked.batch_size)
    return BatchRun(request), request


def _on_cluster(
    stack: ExitStack, sink: Sink, loading: LoadOptions, asked: Asked, cluster: Cluster
) -> tuple[Run, Request]:
    """A run in the workers of a cluster, which is left when the stack is closed."""
    from reroute_cli.cluster.crew import Wishes
    from reroute_cli.cluster.engine import cluster_run, plan_request
    from reroute_cli.cluster.link import Link

    link = stack.enter_context(Link(cluster.address, verbose=sink.verbose))
    wishes = Wishes(cluster.workers, cluster.gpus_per_worker)
    request = plan_request(link, loading, wishes, [asked.choice], asked.max_new_tokens, asked.batch_size)
    for remark in request.loaded.remarks:
        sink.talk(remark)
    if caveat := asked.choice.caveat(request.loaded.family, request.loaded.layers):
        sink.talk(caveat)
    return cluster_run(link, loading, wishes, request, sink.talk), request


def _apart(stack: ExitStack, sink: Sink) -> Callable[[str], None]:
    """Where results go while Ray's words go elsewhere."""
    from reroute_cli.cluster.quiet import apart

    stdout = stack.enter_context(apart(verbose=sink.verbose))
    return lambda text: write(stdout, clean(text).rstrip("\n") + "\n")


def _show(sink: Sink, found: BatchSummary) -> None:
    from reroute_cli.views.registry import document
    from reroute_cli.views.write import terminal

    sink.card("", *terminal.page(document(found, verbose=sink.verbose)))
