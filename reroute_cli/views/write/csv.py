"""A document as CSV: the tables that are data, in base units, under the keys of their columns.

A cell that a spreadsheet would take for a formula starts with an apostrophe. What is unknown is empty.
"""

from __future__ import annotations

import csv
import io

from reroute_cli.console.output import clean
from reroute_cli.console.units import UNKNOWN
from reroute_cli.views.document import BLANK, DATA, TEXT, Document, Value

_FORMULA = ("=", "+", "-", "@")


def document_csv(document: Document) -> str:
    """Its data; the tables that text shows, one below another, where it has none of its own."""
    data = [table for table in document.tables if DATA in table.on]
    pages = []
    for table in data or [table for table in document.tables if TEXT in table.on]:
        page, columns = io.StringIO(), table.shown(DATA)
        writer = csv.writer(page, lineterminator="\n")
        writer.writerow([safe(column.key) for column in columns])
        for row in table.rows:
            cells = (row.get(column.key, BLANK) for column in columns)
            values = (cell.text if cell.value is None else cell.value for cell in cells)
            writer.writerow(["" if value == UNKNOWN else safe(value) for value in values])
        pages.append(page.getvalue())
    return "\n".join(pages)


def safe(value: Value) -> Value:
    """Text that no spreadsheet computes: numbers stay numbers."""
    if not isinstance(value, str):
        return value
    text = clean(value, one_line=True)
    return f"'{text}" if text.startswith(_FORMULA) else text
