"""The one place that turns a record into what was asked for: on stdout, and in a file with -o.

Knows formats and their writers, and loads none that is not asked for; not what a record says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reroute_cli.console.options import OutputOptions
from reroute_cli.console.output import to_json, write_file

if TYPE_CHECKING:
    from reroute_cli.views.document import Document

ON_STDERR = ("answer", "batch")  # kinds whose document stands beside the result, which is text of its own


def emit(record: Any, output: OutputOptions, *, current: Any = None) -> None:
    """Write a record to the file of -o and show it on stdout, and on stderr what stands beside a result.

    current: of a comparison, the report whose numbers the formats of other tools hold. Raises OSError for a
    file that can't be written.
    """
    from reroute_cli.records.schema import kind_of

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


def written(record: Any, form: str, *, verbose: bool = False, current: Any = None) -> str:
    """A record in a format, as the text of a file: json, text, markdown, csv, junit, or another tool's.

    current: as in `emit`.
    """
    from reroute_cli.views.registry import document

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
    from reroute_cli.views.registry import document
    from reroute_cli.views.write.terminal import page

    return page(document(record, verbose=verbose))
