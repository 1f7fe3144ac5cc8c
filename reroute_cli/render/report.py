"""A report's page in a terminal. Knows blocks and how Rich draws; not what they say."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from reroute_cli.records.report import Report
from reroute_cli.render.draw import DIM, STRONG, Page, Part, plain, table
from reroute_cli.reporting.blocks import Block, Say, Table, Tone
from reroute_cli.reporting.page import page

_STYLES = {Tone.HEADLINE: STRONG, Tone.WARNING: "yellow", Tone.NOTE: DIM}


def report_page(report: Report, *, verbose: bool = False) -> Page:
    """The page of a report."""
    return drawn_page(page(report, verbose=verbose))


def drawn_page(blocks: Sequence[Block]) -> Page:
    """Any page, with an empty line around every table and between different tones."""
    drawn: Page = [_drawn(blocks[0])]
    for before, block in pairwise(blocks):
        drawn += [plain("")] * _apart(before, block) + [_drawn(block)]
    return drawn


def _apart(before: Block, block: Block) -> bool:
    same = isinstance(before, Say) and isinstance(block, Say) and before.tone is block.tone
    return not same


def _drawn(block: Block) -> Part:
    if isinstance(block, Table):
        return table(block.headers, block.rows, right=block.right)
    return plain(block.text, _STYLES[block.tone])
