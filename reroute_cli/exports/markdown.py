"""A report as GitHub-flavoured Markdown, for a CI job's summary; whatever text it holds stays text.

Knows blocks; not what they say.
"""

from __future__ import annotations

from collections.abc import Sequence

from reroute_cli.exports.text import markdown
from reroute_cli.records.report import Report
from reroute_cli.reporting.blocks import Block, Say, Tone
from reroute_cli.reporting.page import page

_MARKS = {Tone.HEADLINE: "**{}**", Tone.WARNING: "⚠ {}", Tone.NOTE: "- {}"}


def report_markdown(report: Report, *, verbose: bool = False) -> str:
    """The page as Markdown."""
    return blocks_markdown(page(report, verbose=verbose))


def blocks_markdown(blocks: Sequence[Block]) -> str:
    """Any page of blocks as Markdown."""
    return "\n".join(_gap(blocks, index) + _written(block) for index, block in enumerate(blocks))


def _gap(blocks: Sequence[Block], index: int) -> str:
    """An empty line between blocks, but between the notes of one list."""
    pair = blocks[max(0, index - 1) : index + 1]
    listed = all(isinstance(block, Say) and block.tone is Tone.NOTE for block in pair)
    return "" if not index or listed else "\n"


def _written(block: Block) -> str:
    if isinstance(block, Say):
        return _MARKS[block.tone].format(markdown(block.text))
    rule = ["---:" if index in block.right else "---" for index in range(len(block.headers))]
    head, *rows = [[markdown(cell) for cell in row] for row in (block.headers, *block.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))
