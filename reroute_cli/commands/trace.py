"""`reroute trace IMAGE QUESTION`: where every visual token went, drawn over the image."""

from __future__ import annotations

from reroute_cli.console.command_options import TracedSchedules, TraceOutput
from reroute_cli.console.errors import UsageError
from reroute_cli.console.options import AnswerOptions, ModelOptions
from reroute_cli.console.question_options import TraceQuestion


def trace(
    asked: TraceQuestion,
    model: ModelOptions,
    schedules: TracedSchedules,
    answers: AnswerOptions,
    output: TraceOutput,
) -> None:
    """Trace every visual token: what each stage kept, deferred, took back or pruned, over the image."""
    from reroute_cli.data.images import open_image
    from reroute_cli.data.prompts import check_question
    from reroute_cli.run.schedules import arms_of
    from reroute_cli.views.write.terminal import shows_images

    arms = arms_of(schedules)
    if output.output is None and not output.json and not shows_images():
        raise UsageError("a trace has nowhere to go: add -o FILE.png, FILE.html or FILE.json, or --json")
    check_question(asked.question)
    image = open_image(asked.images[0])
    output.check_box(image.size)

    from reroute_cli.models.load import load_aloud, quiet_libraries
    from reroute_cli.studies.trace import trace as traced
    from reroute_cli.views.emit import emit_trace

    with quiet_libraries():
        loaded = load_aloud(model, output.sink, [arms[1].choice])
        record = traced(loaded, image, asked.question, arms, answers.max_new_tokens, output.box)
    emit_trace(record, image, output)
