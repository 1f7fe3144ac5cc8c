"""`reroute ask IMAGE... QUESTION`: an answer to each question on stdout, what it cost on stderr."""

from __future__ import annotations

import typer

from reroute_cli.console.errors import EXIT_FAILURE
from reroute_cli.console.options import AnswerOptions, ModelOptions, OutputOptions, ScheduleOptions
from reroute_cli.console.question_options import AskQuestions


def ask(
    asked: AskQuestions,
    model: ModelOptions,
    schedule: ScheduleOptions,
    answers: AnswerOptions,
    output: OutputOptions,
) -> None:
    """Ask questions about images: the answers on stdout, what they cost on stderr."""
    from reroute_cli.data.images import open_image
    from reroute_cli.data.prompts import check_question
    from reroute_cli.run.schedules import ScheduleChoice

    questions = asked.asked
    for question in questions:
        check_question(question)
    choice = ScheduleChoice.of(schedule)
    images = [open_image(path) for path in asked.paths]

    from reroute_cli.models.load import load_aloud, quiet_libraries
    from reroute_cli.run.answer import answer, answer_only
    from reroute_cli.run.questions import answers as several_answers
    from reroute_cli.views.emit import emit, emit_answers

    longest = answers.max_new_tokens
    with quiet_libraries():
        loaded = load_aloud(model, output.sink, [choice])
        if len(questions) > 1:
            records = several_answers(loaded, images, questions, choice, longest)
        elif output.quiet and not output.json and output.output is None:  # nobody will see a cost
            output.sink.result(answer_only(loaded, images, questions[0], choice, longest))
            return
        else:
            record = answer(loaded, images, questions[0], choice, longest)
    if len(questions) == 1:
        emit(record, output)
        return
    emit_answers(records, output)
    if any(found.error is not None for found in records):
        raise typer.Exit(EXIT_FAILURE)
