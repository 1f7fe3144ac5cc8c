"""A document as CSV: the tables that are data, in base units, under the keys of their columns.

A cell that a spreadsheet would take for a formula starts with an apostrophe. What is unknown is empty.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from reroute_cli.console.output import clean
from reroute_cli.console.units import UNKNOWN
from reroute_cli.views.document import BLANK, DATA, TEXT, Cell, Column, Document, Value

_FORMULA = ("=", "+", "-", "@")


def document_csv(document: Document) -> str:
    """Its data; the tables that text shows, one below another, where it has none of its own."""
    data = [table for table in document.tables if DATA in table.on]
    shown = data or [table for table in document.tables if TEXT in table.on]
    return "\n".join(_table(table.shown(DATA), table.rows) for table in shown)


def _table(columns: Sequence[Column], rows: Sequence[Mapping[str, Cell]]) -> str:
    page = io.StringIO()
    writer = csv.writer(page, lineterminator="\n")
    writer.writerow([safe(column.key) for column in columns])
    writer.writerows([_value(row.get(column.key, BLANK)) for column in columns] for row in rows)
    return page.getvalue()


def _value(cell: Cell) -> Value:
    if cell.value is not None:
        return safe(cell.value)
    return "" if cell.text == UNKNOWN else safe(cell.text)


def safe(value: Value) -> Value:
    """Text that no spreadsheet computes: numbers stay numbers."""
    if not isinstance(value, str):
        return value
    text = clean(value, one_line=True)
    return f"'{text}" if text.startswith(_FORMULA) else text
