"""A report as a page: which blocks, in which order. Knows neither terminals nor Markdown."""

from __future__ import annotations

from reroute_cli.records.report import Report
from reroute_cli.reporting.blocks import Block, Say, Tone
from reroute_cli.reporting.sentences import headline, notes, warnings
from reroute_cli.reporting.tables import difference_table, item_table, layer_table, metric_tables


def page(report: Report, *, verbose: bool = False) -> list[Block]:
    """The headline, the numbers, the answers that differ, and what to know before quoting any of it."""
    blocks: list[Block] = [Say(headline(report), Tone.HEADLINE)]
    blocks += metric_tables(report, verbose=verbose)
    blocks.append(layer_table(report))
    if verbose:
        blocks.append(item_table(report))
    different, left = difference_table(report, everything=verbose)
    if different is not None:
        blocks.append(different)
    if left:
        blocks.append(Say(f"and {left} more answers that differ: -v shows them all"))
    blocks += [Say(text, Tone.WARNING) for text in warnings(report, verbose=verbose)]
    return blocks + [Say(text) for text in notes(report)]
