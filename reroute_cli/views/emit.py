"""The one place that turns a record into what was asked for: on stdout, and in a file with -o.

Knows which function shows which record in which format; not what any of them says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import StringIO
from typing import Any

from reroute_cli.console.options import OutputOptions
from reroute_cli.console.output import clean, draw, to_json, write_file
from reroute_cli.exports import comparison_markdown, junit
from reroute_cli.exports.csv import report_csv
from reroute_cli.exports.evaluation import evaluation_csv, evaluation_markdown
from reroute_cli.exports.markdown import blocks_markdown, report_markdown
from reroute_cli.exports.numbers import NUMBERS
from reroute_cli.records.answer import AnswerRecord
from reroute_cli.records.batch import BatchSummary
from reroute_cli.records.comparison import Comparison
from reroute_cli.records.evaluation import Evaluation
from reroute_cli.records.installation import Check, Installation
from reroute_cli.records.lists import BenchmarkList, MethodList, ModelList, ProfileList
from reroute_cli.records.plan import Plan
from reroute_cli.records.report import Report
from reroute_cli.records.sweep import SweepReport
from reroute_cli.records.tune import TuneReport
from reroute_cli.render.batch import batch_page
from reroute_cli.render.card import cost_card
from reroute_cli.render.check import check_page
from reroute_cli.render.comparison import comparison_lines, comparison_page
from reroute_cli.render.evaluation import evaluation_drawn
from reroute_cli.render.plan import plan_page
from reroute_cli.render.report import drawn_page, report_page
from reroute_cli.render.tune import tune_page
from reroute_cli.sweeping.csv import sweep_csv
from reroute_cli.sweeping.page import page as sweep_page
from reroute_cli.views import lists

# Text, or parts to draw among which a plain string is a line that is never wrapped.
View = str | Sequence[Any]

VIEWS: dict[type, dict[str, Callable[[Any, bool], View]]] = {
    AnswerRecord: {"text": lambda record, _: record.answer},
    BatchSummary: {"text": lambda *_: []},  # the records themselves are on stdout
    BenchmarkList: {"text": lambda record, _: lists.benchmark_list(record)},
    Check: {"text": lambda record, _: check_page(record.as_dict())},
    Comparison: {
        "text": lambda record, verbose: [
            *comparison_page(record, verbose=verbose),
            *comparison_lines(record),
        ],
        "markdown": lambda record, _: comparison_markdown.export(record),
        "junit": lambda record, _: junit.export(record),
    },
    Evaluation: {
        "text": lambda record, verbose: evaluation_drawn(record, verbose=verbose),
        "markdown": lambda record, verbose: evaluation_markdown(record, verbose=verbose),
        "csv": lambda record, _: evaluation_csv(record),
    },
    Installation: {"text": lambda record, _: lists.installation(record)},
    MethodList: {"text": lambda record, _: lists.method_list(record)},
    ModelList: {"text": lambda record, _: lists.model_list(record)},
    Plan: {"text": lambda record, _: plan_page(record.as_dict())},
    ProfileList: {"text": lambda record, _: lists.profile_list(record)},
    Report: {
        "text": lambda record, verbose: report_page(record, verbose=verbose),
        "markdown": lambda record, verbose: report_markdown(record, verbose=verbose),
        "csv": lambda record, _: report_csv(record),
        **{name: lambda record, _, export=export: export(record) for name, export in NUMBERS.items()},  # type: ignore[misc]
    },
    SweepReport: {
        "text": lambda record, verbose: drawn_page(sweep_page(record, verbose=verbose)),
        "markdown": lambda record, verbose: blocks_markdown(sweep_page(record, verbose=verbose)),
        "csv": lambda record, _: sweep_csv(record),
    },
    TuneReport: {"text": lambda record, verbose: tune_page(record, verbose=verbose)},
}
CARDS: dict[type, Callable[..., Sequence[Any]]] = {AnswerRecord: cost_card, BatchSummary: batch_page}


def emit(record: Any, output: OutputOptions, *, current: Report | None = None) -> None:
    """Write a record to the file of -o, show it on stdout, and beside that its cost on stderr, if it has one.

    current: of a comparison, the report whose numbers the formats of other tools hold. Raises OSError for a
    file that can't be written.
    """
    if output.output is not None:
        write_file(output.output, _text(record, output.kept, output.verbose, current))
    if output.shown == "json":
        output.sink.json(record.as_dict())
    else:
        shown = _view(record, output.shown, output.verbose, current)
        lines = [shown] if isinstance(shown, str) else [part for part in shown if isinstance(part, str)]
        if drawn := [part for part in shown if not isinstance(part, str)]:
            output.sink.table(*drawn)
        for line in lines:
            output.sink.result(line)
    if card := CARDS.get(type(record)):
        output.sink.card(*card(record, verbose=output.verbose))


def _text(record: Any, form: str, verbose: bool, current: Report | None) -> str:
    """What a file gets in this format."""
    if form == "json":
        return to_json(record.as_dict()) + "\n"
    shown = _view(record, form, verbose, current)
    if isinstance(shown, str):
        return shown
    page = draw(tuple(part for part in shown if not isinstance(part, str)), StringIO())
    return page + "".join(f"{clean(part, one_line=True)}\n" for part in shown if isinstance(part, str))


def _view(record: Any, form: str, verbose: bool, current: Report | None) -> View:
    source = current if current is not None and form in NUMBERS else record
    return VIEWS[type(source)][form](source, verbose)
