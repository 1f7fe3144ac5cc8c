"""The one place that turns a record into what was asked for: on stdout, and in a file with -o.

Knows which document each kind of record has, formats and their writers, and loads none that is not asked for;
not what a record says.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reroute_cli.console.options import OutputOptions
from reroute_cli.console.output import clean, shortened, to_json, to_line, write_file
from reroute_cli.records.schema import kind_of

if TYPE_CHECKING:
    from reroute_cli.console.command_options import TraceOutput
    from reroute_cli.data.images import Picture
    from reroute_cli.records.trace import TraceRecord
    from reroute_cli.views.document import Document

DOCUMENTS = {  # kind of record: module and function
    "answer": "answer.document",
    "batch": "batch.document",
    "benchmarks": "lists.benchmarks",
    "check": "lists.check",
    "comparison": "comparison.document",
    "cost": "emit.cost_document",
    "env": "lists.installation",
    "eval": "evaluation.document",
    "lmms_costs": "batch.lmms_document",
    "method": "method.document",
    "methods": "lists.methods",
    "models": "lists.models",
    "plan": "plan.document",
    "profile": "lists.profile",
    "profiles": "lists.profiles",
    "report": "profile.document",
    "sweep": "sweep.document",
    "trace": "trace.document",
    "tune": "tune.document",
}
ON_STDERR = ("answer", "batch")  # kinds whose document stands beside the result, which is text of its own
_NAME = 60  # characters of a page's own name on it


def document(record: Any, *, verbose: bool = False) -> Document:
    """The document of a record, by its schema. verbose: with everything that there is to say."""
    module, function = DOCUMENTS[kind_of(record.schema_)].split(".")
    made: Document = getattr(import_module(f"reroute_cli.views.{module}"), function)(record, verbose=verbose)
    return made


def cost_document(record: Any, *, verbose: bool = False) -> Document:
    """One measured item of a sweep, `reroute.cost/1`: its report."""
    return document(record.report, verbose=verbose)


def html_fragment(record: Any) -> str:
    """A record's headline, tiles, tables and sentences as HTML elements in which nothing is live."""
    from reroute_cli.views.write.html import fragment

    return f"<div>{''.join(fragment(document(record)))}</div>"


def emit(record: Any, output: OutputOptions, *, current: Any = None) -> None:
    """Write a record to the file of -o and show it on stdout, and on stderr what stands beside a result.

    current: of a comparison, the report whose numbers the formats of other tools hold. Raises OSError for a
    file that can't be written.
    """
    kind = kind_of(record.schema_)
    if output.output is not None:
        write_file(output.output, written(record, output.kept, verbose=output.verbose, current=current))
    if output.shown == "json":
        output.sink.json(record.as_dict())
    elif kind in ON_STDERR:
        if kind == "answer":
            output.sink.result(record.answer)
    elif output.shown == "text":
        output.sink.table(*_drawn(record, output.verbose))
    else:
        output.sink.result(written(record, output.shown, verbose=output.verbose, current=current))
    if kind in ON_STDERR:
        output.sink.card("", *_drawn(record, output.verbose))


def emit_answers(records: Sequence[Any], output: OutputOptions) -> None:
    """Write answers to several questions: a line each on stdout, as text or JSON, and their cards on stderr.

    A question without an answer has an empty line there, and says why on stderr. The file of -o gets JSON
    lines. Raises OSError for a file that can't be written.
    """
    lines = [to_line(record.as_dict()) for record in records]
    if output.output is not None:
        write_file(output.output, "".join(line + "\n" for line in lines))
    for record, line in zip(records, lines, strict=True):
        output.sink.result(line if output.shown == "json" else clean(record.answer, one_line=True))
        if record.error is not None:
            output.sink.error(f"'{shortened(record.question)}': {record.error}")
        else:
            output.sink.card("", clean(record.question, one_line=True), *_drawn(record, output.verbose))


def written(record: Any, form: str, *, verbose: bool = False, current: Any = None) -> str:
    """A record in a format, as the text of a file: json, text, markdown, csv, junit, or another tool's.

    current: as in `emit`.
    """
    if form == "json":
        return to_json(record.as_dict()) + "\n"
    if form in ("text", "markdown", "csv"):
        return shown(document(record, verbose=verbose and form != "csv"), form)
    from reroute_cli.views.write import ci

    return ci.junit(record) if form == "junit" else ci.NUMBERS[form](record if current is None else current)


def shown(document: Document, form: str) -> str:
    """A document as text, markdown or csv."""
    if form == "text":
        from reroute_cli.views.write.terminal import text

        return text(document)
    if form == "markdown":
        from reroute_cli.views.write.markdown import markdown

        return markdown(document)
    from reroute_cli.views.write.csv import document_csv

    return document_csv(document)


def _drawn(record: Any, verbose: bool) -> list[Any]:
    from reroute_cli.views.write.terminal import page

    return page(document(record, verbose=verbose))


def emit_trace(record: TraceRecord, picture: Picture, output: TraceOutput) -> None:
    """Write the trace to the file of -o by its suffix, show it on stdout, and its numbers on stderr."""
    from reroute_cli.views.write import terminal

    sink, on_terminal = output.sink, not output.json and terminal.shows_images()
    figure = b""
    if output.kept == "png" or on_terminal:
        from reroute_cli.views.write.figure import draw_trace

        drawn = draw_trace(record, picture.pixels)
        figure = drawn.png
        if drawn.replaced:
            sink.talk(
                f"note: {drawn.replaced} characters that its font lacks are drawn as '?'; the JSON has them"
            )
    if output.output is not None:
        if output.kept == "html":
            from reroute_cli.views.wording import short
            from reroute_cli.views.write.html import PageSection, page_of

            section = PageSection(short(output.output.name, _NAME), document(record))
            write_file(output.output, page_of([section], 1, [Path(record.picture.path).parent]).html)
        else:
            write_file(output.output, figure if output.kept == "png" else to_json(record.as_dict()) + "\n")
    if output.json:
        sink.json(record.as_dict())
    elif on_terminal:
        terminal.show_image(figure)
    if output.output is not None and not output.json:
        sink.result(str(output.output))
    sink.card("", *terminal.page(document(record)))
