"""`reroute eval`: how good answers are under each schedule, against the dense model, and how sure that is."""

from __future__ import annotations

import typer

from reroute_cli.console.errors import EXIT_FAILURE
from reroute_cli.console.options import ArmsOptions, KeptTables, ListOutput, ModelOptions, RunOptions
from reroute_cli.console.study_options import EvalQuestions


def evaluate(
    questions: EvalQuestions,
    model: ModelOptions,
    schedules: ArmsOptions,
    run: RunOptions,
    output: KeptTables,
) -> None:
    """Score answers to questions with ground truth, under schedules and dense, pair by pair."""
    from reroute_cli.run.schedules import arms_of
    from reroute_cli.views.emit import emit

    if questions.benches:
        from reroute_cli.studies.benchmarks import listed

        emit(listed(output.sink.talk), ListOutput(json=output.shown == "json"))
        return
    from reroute_cli.studies.questions import check_files, check_subset, subject_of

    arms = arms_of(schedules)
    check_subset(questions.subset, arms)
    subject = subject_of(questions)
    check_files({"--output": output.output, "--records": output.records}, {"--manifest": questions.manifest})

    from reroute_cli.studies.evaluate import evaluate as evaluated
    from reroute_cli.studies.questions import made_ready

    with made_ready(output.sink, model, subject, arms, output.records) as ready:
        report = evaluated(
            ready.loaded,
            subject,
            ready.questions,
            arms,
            run,
            ready.file,
            seed=model.seed,
            progress=ready.progress,
        )
    emit(report, output)
    if report.counts.errors:
        raise typer.Exit(EXIT_FAILURE)
