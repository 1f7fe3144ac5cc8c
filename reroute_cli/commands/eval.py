"""`reroute eval`: how good answers are under each schedule, against the dense model, and how sure that is."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reroute_cli import options, run_options
from reroute_cli.arms import Arm, ArmOptions, arms_of
from reroute_cli.console.errors import EXIT_FAILURE
from reroute_cli.console.output import Sink, to_json, write_file
from reroute_cli.models import LoadOptions
from reroute_cli.schedules import read_cuts
from reroute_cli.sources import POCKET

if TYPE_CHECKING:
    from reroute_cli.evaluation.subject import Subject
    from reroute_cli.records.evaluation import Evaluation


class EvalFormat(StrEnum):
    """What an evaluation is written as on stdout."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"
    CSV = "csv"


def evaluate(
    bench: run_options.Bench = None,
    split: run_options.Split = None,
    data: run_options.Data = None,
    manifest: run_options.TruthManifest = None,
    limit: run_options.QuestionLimit = None,
    benches: Annotated[
        bool,
        typer.Option("--list", help="Say which benchmarks there are, and exit.", rich_help_panel="Input"),
    ] = False,
    model: options.Model = POCKET,
    method: options.Method = None,
    action: options.Action = None,
    ratio: options.Ratio = None,
    budget: options.Budget = None,
    cuts: options.Cuts = None,
    profile: options.Profile = None,
    arms: run_options.Arms = None,
    device: options.Device = "auto",
    dtype: options.Dtype = options.DtypeName.AUTO,
    attn: options.Attn = options.AttnName.SDPA,
    load_format: options.Load = options.LoadFormat.AUTO,
    chat_template: options.ChatTemplate = None,
    batch_size: run_options.BatchSize = 8,
    max_new_tokens: run_options.LongestAnswer = None,
    generation: options.Generation = options.GenerationName.MODEL,
    seed: options.Seed = 0,
    records: run_options.KeptAnswers = None,
    format: Annotated[  # noqa: A002  named after its option
        EvalFormat,
        typer.Option(
            "--format", help="What stdout gets; --json is short for json.", rich_help_panel="Output"
        ),
    ] = EvalFormat.TEXT,
    json: options.Json = False,
    output: options.Output = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Score answers to questions whose answers are known, under schedules and dense, pair by pair."""
    sink = Sink(quiet=quiet, verbose=verbose)
    if benches:
        _list(sink, json=json)
        return
    shown = run_options.shown_format(format, json=json)
    chosen = arms_of(ArmOptions(method, action, ratio, budget, profile, arms, seed, read_cuts(cuts)))
    subject = _subject(bench, split, data, manifest, limit)
    _check_files(output, records, manifest)
    loading = LoadOptions(
        model, device, dtype, attn, load_format, seed, chat_template, str(generation), quiet
    )
    report = _evaluated(sink, loading, subject, chosen, (batch_size, max_new_tokens), records)
    if output is not None:
        write_file(output, to_json(report.as_dict()) + "\n")
    _show(sink, report, shown)
    if report.counts.errors:
        raise typer.Exit(EXIT_FAILURE)


def _subject(
    bench: str | None, split: str | None, data: str | None, manifest: Path | None, limit: int | None
) -> Subject:
    from reroute_cli.evaluation.subject import subject_of

    return subject_of(bench, split, data, manifest, limit)


def _check_files(output: Path | None, records: Path | None, manifest: Path | None) -> None:
    from reroute_cli.evaluation.ready import check_files

    check_files({"--output": output, "--records": records}, {"--manifest": manifest})


def _evaluated(
    sink: Sink,
    loading: LoadOptions,
    subject: Subject,
    arms: tuple[Arm, ...],
    sizes: tuple[int, int | None],
    records: Path | None,
) -> Evaluation:
    """Everything that needs torch: load, ask, judge, report. sizes: of a batch, of the longest answer."""
    from reroute_cli.evaluation.feasible import checked
    from reroute_cli.evaluation.ready import made_ready
    from reroute_cli.evaluation.report import Asked, make_evaluation
    from reroute_cli.evaluation.trial import hold_trial

    with made_ready(sink, loading, subject, arms, records) as ready:
        questions, progress = ready.questions, ready.progress
        if questions.count is not None:
            progress.expect(questions.count * len(arms))
        trial = hold_trial(
            ready.loaded,
            arms,
            checked(ready.loaded, arms, questions.items),
            ready.file,
            max_new_tokens=sizes[1] or subject.benchmark.max_new_tokens,
            batch_size=sizes[0],
            done=progress.done,
        )
        progress.tell("comparing")
        return make_evaluation(trial, Asked(subject, questions, loading.seed))


def _show(sink: Sink, report: Evaluation, shown: EvalFormat) -> None:
    """The report on stdout in this format."""
    from reroute_cli.views.registry import document
    from reroute_cli.views.write import csv, markdown, terminal

    if shown is EvalFormat.JSON:
        sink.json(report.as_dict())
    elif shown is EvalFormat.CSV:
        sink.result(csv.document_csv(document(report)))
    elif shown is EvalFormat.MARKDOWN:
        sink.result(markdown.markdown(document(report, verbose=sink.verbose)))
    else:
        sink.table(*terminal.page(document(report, verbose=sink.verbose)))


def _list(sink: Sink, *, json: bool) -> None:
    """Every benchmark with its splits and where it comes from."""
    from reroute_cli.benchmarks import BENCHMARKS
    from reroute_cli.records.lists import BenchmarkList, BenchmarkPart

    rows = [
        BenchmarkPart(
            name=found.name,
            title=found.title,
            source=found.source or "in the package",
            splits=list(found.splits),
            scores=[score.name for score in found.scores],
            max_new_tokens=found.max_new_tokens,
            notes=found.notes,
        )
        for found in BENCHMARKS.values()
    ]
    benchmarks = BenchmarkList(benchmarks=rows)
    if json:
        sink.json(benchmarks.as_dict())
        return
    from reroute_cli.views.registry import document
    from reroute_cli.views.write import terminal

    sink.table(*terminal.page(document(benchmarks)))
