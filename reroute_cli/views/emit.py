"""The one place that turns a record into what was asked for: on stdout, and in a file with -o.

Knows which function shows which record in which format, and loads none that is not asked for; not what any of
them says.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from importlib import import_module
from io import StringIO
from typing import Any

from reroute_cli.console.options import OutputOptions
from reroute_cli.console.output import clean, draw, to_json, write_file

# Text, or parts to draw, among which a plain string is a line that is never wrapped.
View = str | Sequence[Any]

# The kind of a record -> format -> the function that shows it so, as module:name below reroute_cli.
VIEWS: dict[str, dict[str, str]] = {
    "AnswerRecord": {"text": "render.card:answer_text"},
    "BatchSummary": {"text": "render.batch:nothing"},  # the records themselves are on stdout
    "BenchmarkList": {"text": "views.lists:benchmark_list"},
    "Check": {"text": "render.check:check_page"},
    "Comparison": {
        "text": "render.comparison:comparison_view",
        "markdown": "exports.comparison_markdown:export",
        "junit": "exports.junit:export",
    },
    "Evaluation": {
        "text": "render.evaluation:evaluation_drawn",
        "markdown": "exports.evaluation:evaluation_markdown",
        "csv": "exports.evaluation:evaluation_csv",
    },
    "Installation": {"text": "views.lists:installation"},
    "MethodList": {"text": "views.lists:method_list"},
    "ModelList": {"text": "views.lists:model_list"},
    "Plan": {"text": "render.plan:plan_page"},
    "ProfileList": {"text": "views.lists:profile_list"},
    "Report": {
        "text": "render.report:report_page",
        "markdown": "exports.markdown:report_markdown",
        "csv": "exports.csv:report_csv",
        "github-action-benchmark": "exports.github_action_benchmark:export",
        "github-action-benchmark-bigger": "exports.github_action_benchmark:export_bigger",
        "bencher": "exports.bencher:export",
    },
    "SweepReport": {
        "text": "sweeping.page:sweep_page",
        "markdown": "sweeping.page:sweep_markdown",
        "csv": "sweeping.csv:sweep_csv",
    },
    "TuneReport": {"text": "render.tune:tune_page"},
}
# What stands on stderr beside the result.
CARDS = {"AnswerRecord": "render.card:cost_card", "BatchSummary": "render.batch:batch_page"}


def emit(record: Any, output: OutputOptions, *, current: Any = None) -> None:
    """Write a record to the file of -o, show it on stdout, and its cost on stderr if it has one.

    current: of a comparison, the report whose numbers the formats of other tools hold. Raises OSError for a
    file that can't be written.
    """
    if output.output is not None:
        write_file(output.output, _text(record, output.kept, output.verbose, current))
    if output.shown == "json":
        output.sink.json(record.as_dict())
    else:
        drawn, lines = _parts(record, output.shown, output.verbose, current)
        if drawn:
            output.sink.table(*drawn)
        for line in lines:
            output.sink.result(line)
    if card := CARDS.get(type(record).__name__):
        output.sink.card(*_called(card, record, output.verbose))


def _text(record: Any, form: str, verbose: bool, current: Any) -> str:
    """What a file gets in this format."""
    if form == "json":
        return to_json(record.as_dict()) + "\n"
    drawn, lines = _parts(record, form, verbose, current)
    if not drawn:
        return "".join(lines)
    return draw(drawn, StringIO()) + "".join(f"{clean(line, one_line=True)}\n" for line in lines)


def _parts(record: Any, form: str, verbose: bool, current: Any) -> tuple[tuple[Any, ...], list[str]]:
    """What is to be drawn, and the text or the lines that follow it."""
    source = record if form in VIEWS[type(record).__name__] else current
    shown = _called(VIEWS[type(source).__name__][form], source, verbose)
    if isinstance(shown, str):
        return (), [shown]
    drawn = tuple(part for part in shown if not isinstance(part, str))
    return drawn, [part for part in shown if isinstance(part, str)]


def view(place: str) -> Callable[..., View]:
    """The function at a place of the table."""
    module, _, name = place.partition(":")
    found: Callable[..., View] = getattr(import_module(f"reroute_cli.{module}"), name)
    return found


def _called(place: str, record: Any, verbose: bool) -> View:
    """The view of a record; verbose: handed to functions that have a longer form."""
    function = view(place)
    longer = {"verbose": verbose} if "verbose" in inspect.signature(function).parameters else {}
    return function(record, **longer)
