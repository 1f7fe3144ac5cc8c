"""Which document each kind of record has; the one place that asks, and loads only what it is asked for.

`html_fragment` is a document as a few plain elements, for notebooks: no script, no style, no figure. It is
what `html_of` of the records is set to where they are used as a library.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from importlib import import_module
from typing import Any

from reroute_cli.console.output import clean
from reroute_cli.records.schema import kind_of
from reroute_cli.views.document import BLANK, HEADLINES, PAGE, Document, Heading, Table, Text, Tile

DOCUMENTS = {  # kind of record: module and function
    "answer": "answer.document",
    "batch": "batch.document",
    "benchmarks": "lists.benchmarks",
    "check": "installation.check_document",
    "comparison": "comparison.document",
    "cost": "registry.cost_document",
    "env": "installation.document",
    "eval": "evaluation.document",
    "lmms_costs": "batch.lmms_document",
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
MOST_ROWS = 300  # of a table in HTML


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
    return f"<div>{''.join(fragment(document(record)))}</div>"


def fragment(document: Document) -> Iterator[str]:
    """The blocks of a document that are for pages, but for what takes a click or a script."""
    for block in (block for block in document.blocks if PAGE in block.on):
        if isinstance(block, Table) and not block.folded:
            yield _table(block)
        elif isinstance(block, Heading):
            yield f"<h4>{_safe(block.text)}</h4>"
        elif isinstance(block, Text):
            text = _safe(block.line)
            yield f"<p><b>{text}</b></p>" if block.tone in HEADLINES else f"<p>{text}</p>"
        elif isinstance(block, Tile):
            note = f" <small>{_safe(block.note)}</small>" if block.note else ""
            yield f"<p>{_safe(block.label)}: <b>{_safe(block.value)}</b>{note}</p>"


def _table(table: Table) -> str:
    columns = table.shown(PAGE)
    lines = ["".join(f"<th>{_safe(column.label)}</th>" for column in columns)]
    for row in table.rows[:MOST_ROWS]:
        cells = (row.get(column.key, BLANK) for column in columns)
        lines.append("".join(f"<td>{_safe(cell.line)}</td>" for cell in cells))
    rows = "".join(f"<tr>{line}</tr>" for line in lines)
    left = len(table.rows) - MOST_ROWS
    more = f"<p>{left} more rows are left out.</p>" if left > 0 else ""
    return f"<table><caption>{_safe(table.caption)}</caption>{rows}</table>{more}"


def _safe(text: str) -> str:
    """Text that is nothing but text between tags; $ too, which notebooks read as formulas."""
    return escape(clean(text)).replace("$", "&#36;")
