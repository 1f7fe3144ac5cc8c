"""`reroute ask IMAGE... QUESTION`: one answer on stdout, what it cost on stderr."""

from __future__ import annotations

from reroute_cli.console.options import (
    AnswerOptions,
    ModelOptions,
    OutputOptions,
    QuestionOptions,
    ScheduleOptions,
)


def ask(
    asked: QuestionOptions,
    model: ModelOptions,
    schedule: ScheduleOptions,
    answers: AnswerOptions,
    output: OutputOptions,
) -> None:
    """Ask a question about images: the answer on stdout, what it cost on stderr."""
    from reroute_cli.data.images import open_image
    from reroute_cli.data.prompts import check_question
    from reroute_cli.run.schedules import ScheduleChoice

    check_question(asked.question)
    choice = ScheduleChoice.of(schedule)
    images = [open_image(path) for path in asked.images]

    from reroute_cli.models.load import load_aloud, quiet_libraries
    from reroute_cli.run.answer import answer, answer_only

    longest = answers.max_new_tokens
    with quiet_libraries():
        loaded = load_aloud(model, output.sink, [choice])
        if output.quiet and not output.json and output.output is None:  # nobody will see a cost
            output.sink.result(answer_only(loaded, images, asked.question, choice, longest))
            return
        record = answer(loaded, images, asked.question, choice, longest)

    from reroute_cli.views.emit import emit

    emit(record, output)
