"""A document as GitHub-flavoured Markdown, for a CI job's summary; whatever text it holds stays text.

Tables as in https://github.github.com/gfm/#tables-extension-. Knows documents; not what they say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from reroute_cli.console.output import clean
from reroute_cli.views.document import BLANK, TEXT, Block, Cell, Column, Document, Heading, Table, Text, Tone

# CommonMark lets any ASCII punctuation be escaped with a backslash (https://spec.commonmark.org/0.31.2/#backslash-escapes);
# these are the ones that mean something inside a line or a table cell.
_SIGNS = re.compile(r"([\\`*_{}\[\]()#!|~$@])")
_TONES = {
    Tone.HEADLINE: "**{}**",
    Tone.PASSED: "### ✅ {}",
    Tone.FAILED: "### ❌ {}",
    Tone.WARNING: "⚠ {}",
    Tone.NOTE: "- {}",
}


def escaped(text: object) -> str:
    """Text as one line of Markdown that shows it and nothing else: no markup, no HTML, no table cell ends."""
    line = clean(str(text), one_line=True).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SIGNS.sub(r"\\\1", line)


def markdown(document: Document) -> str:
    """The document as Markdown, a verdict as its title; notes that follow one another are one list."""
    lines: list[str] = []
    listed = False
    for block in sorted(document.blocks, key=lambda block: not _is_title(block)):
        if TEXT not in block.on or not isinstance(block, Heading | Text | Table):
            continue
        note = isinstance(block, Text) and block.tone is Tone.NOTE
        lines += [""] if lines and not (note and listed) else []
        listed = note
        if isinstance(block, Table):
            lines += _tables(block)
        elif isinstance(block, Heading):
            lines.append(f"### {escaped(block.text)}")
        else:
            typed = f" <code>{escaped(block.command)}</code>" if block.command else ""
            lines.append(_TONES[block.tone].format(escaped(block.text) + typed))
    return "\n".join(lines) + "\n"


def _is_title(block: Block) -> bool:
    return isinstance(block, Text) and block.tone in (Tone.PASSED, Tone.FAILED)


def _tables(table: Table) -> Iterator[str]:
    for number, (columns, rows) in enumerate(table.parts()):
        if number:
            yield ""
        yield from _lines(columns, rows)
    if table.left_out:
        yield f"\n{escaped(table.left_out)}"


def _lines(columns: Sequence[Column], rows: Sequence[Mapping[str, Cell]]) -> Iterator[str]:
    yield f"| {' | '.join(escaped(column.title) for column in columns)} |"
    yield f"| {' | '.join('---:' if column.right else '---' for column in columns)} |"
    for row in rows:
        cells = (row.get(column.key, BLANK) for column in columns)
        yield f"| {' | '.join(escaped(f'{cell.mark} {cell.line}'.strip()) for cell in cells)} |"
