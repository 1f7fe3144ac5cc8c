"""A document as GitHub-flavoured Markdown, for a CI job's summary; whatever text it holds stays text.

Tables as in https://github.github.com/gfm/#tables-extension-. Knows documents; not what they say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from reroute_cli.console.output import clean
from reroute_cli.views.document import BLANK, TEXT, Document, Heading, Table, Text, Tone

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
    verdicts = (Tone.PASSED, Tone.FAILED)
    for block in sorted(document.blocks, key=lambda one: getattr(one, "tone", None) not in verdicts):
        if TEXT not in block.on or not isinstance(block, Heading | Text | Table):
            continue
        note = isinstance(block, Text) and block.tone is Tone.NOTE
        lines += [""] if lines and not (note and listed) else []
        listed = note
        if isinstance(block, Table):
            lines += _lines(block)
        elif isinstance(block, Heading):
            lines.append(f"### {escaped(block.text)}")
        else:
            typed = f" <code>{escaped(block.command)}</code>" if block.command else ""
            lines.append(_TONES[block.tone].format(escaped(block.text) + typed))
    return "\n".join(lines) + "\n"


def _lines(table: Table) -> Iterator[str]:
    """A table, part by part, and what is said of the rows that are left out."""
    for number, (columns, rows) in enumerate(table.parts()):
        if number:
            yield ""
        yield f"| {' | '.join(escaped(column.title) for column in columns)} |"
        yield f"| {' | '.join('---:' if column.right else '---' for column in columns)} |"
        for row in rows:
            cells = (row.get(column.key, BLANK) for column in columns)
            yield f"| {' | '.join(escaped(f'{cell.mark} {cell.line}'.strip()) for cell in cells)} |"
    if table.left_out:
        yield f"\n{escaped(table.left_out)}"
