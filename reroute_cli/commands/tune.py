"""`reroute tune`: the best schedule for a budget, or the cheapest above a floor, as a profile."""

from __future__ import annotations

import typer

from reroute_cli.console.errors import EXIT_FAILURE, EXIT_REGRESSION
from reroute_cli.console.options import BenchmarkOptions, ModelOptions, RunOptions
from reroute_cli.console.output import write_file
from reroute_cli.console.study_options import SearchOptions, TuneOutput


def tune(
    questions: BenchmarkOptions,
    model: ModelOptions,
    search: SearchOptions,
    run: RunOptions,
    output: TuneOutput,
) -> None:
    """Search decision layers, keep ratios and method on half of the images; report on the other half."""
    from reroute_cli.studies.questions import (
        check_files,
        made_ready,
        subject_of,
    )
    from reroute_cli.studies.tune.report import Where, profile_text
    from reroute_cli.studies.tune.request import choose_questions, tune_request
    from reroute_cli.studies.tune.session import tune as searched
    from reroute_cli.views.emit import emit

    request = tune_request(search)
    written = {"--output": output.output, "--records": output.records, "--write": output.write}
    check_files(written, {"--manifest": questions.manifest})
    subject = subject_of(questions)
    subject, scores = subject.unlimited(), subject.benchmark.scores
    if subject.is_here:  # these questions are looked at before a model is loaded
        choose_questions(
            tuple(subject.questions("").items), scores, search.score, questions.limit, request.seed
        )
    with made_ready(output.sink, model, subject, (), output.records) as ready:
        items = tuple(ready.questions.items)
        chosen = choose_questions(items, scores, search.score, questions.limit, request.seed)
        report = searched(
            ready.loaded,
            chosen,
            request,
            ready.file,
            Where(subject, ready.questions.source, output.write),
            max_new_tokens=run.max_new_tokens or subject.benchmark.max_new_tokens,
            batch_size=run.batch_size,
            feature_cache=run.feature_cache,
            progress=ready.progress,
        )
        if output.write is not None and report.found.schedule is not None:
            write_file(output.write, profile_text(report))
    emit(report, output)
    if output.write is not None and report.found.schedule is None:
        profile_text(report)  # which says why there is none
    if report.errors:
        raise typer.Exit(EXIT_FAILURE)
    if report.floor is not None and not report.floor.holds:
        raise typer.Exit(EXIT_REGRESSION)
