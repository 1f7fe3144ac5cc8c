"""`reroute sweep`: methods, actions and amounts side by side, quality against measured cost."""

from __future__ import annotations

import typer

from reroute_cli.console.errors import EXIT_FAILURE
from reroute_cli.console.options import ModelOptions, RunOptions
from reroute_cli.console.study_options import ComparedQuestions, CostOptions, GridOptions, SweepOutput


def sweep(
    questions: ComparedQuestions,
    model: ModelOptions,
    schedules: GridOptions,
    run: RunOptions,
    costs: CostOptions,
    output: SweepOutput,
) -> None:
    """Sweep methods, actions and amounts over questions with ground truth: quality against measured cost."""
    from reroute_cli.run.schedules import arms_of
    from reroute_cli.studies.questions import (
        check_files,
        check_subset,
        made_ready,
        subject_of,
    )
    from reroute_cli.studies.sweep import SweepRequest
    from reroute_cli.studies.sweep import sweep as swept
    from reroute_cli.views.emit import emit

    arms = arms_of(schedules)
    check_subset(questions.subset, arms)
    written = {"--output": output.output, "--records": output.records, "--plot": output.plot}
    check_files(written, {"--manifest": questions.manifest})
    subject = subject_of(questions)
    request = SweepRequest.of(subject, run, costs, model.seed)
    with made_ready(output.sink, model, subject, arms, output.records) as ready:
        report = swept(
            ready.loaded,
            ready.questions,
            arms,
            request,
            ready.file,
            say=output.sink.talk,
            progress=ready.progress,
        )
    emit(report, output)
    if output.plot is not None:
        from reroute_cli.views.write.plot import draw_plot

        draw_plot(report, output.plot)
    if report.counts.errors:
        raise typer.Exit(EXIT_FAILURE)
