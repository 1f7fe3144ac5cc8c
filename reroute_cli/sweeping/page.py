"""A sweep as a page: which blocks, in which order, drawn or as Markdown."""

from __future__ import annotations

from reroute_cli.exports.markdown import blocks_markdown
from reroute_cli.records.sweep import SweepReport
from reroute_cli.render.draw import Page
from reroute_cli.render.report import drawn_page
from reroute_cli.reporting.blocks import Block, Say, Tone
from reroute_cli.sweeping.lines import lines_of
from reroute_cli.sweeping.sentences import headline, notes, warnings
from reroute_cli.sweeping.tables import beaten_table, cost_table, front_table, score_table


def sweep_blocks(report: SweepReport, *, verbose: bool = False) -> list[Block]:
    """The headline, the scores, the costs, the fronts, and what to know before quoting any of it.

    verbose: every score, and what beats the arms that are on no front.
    """
    lines, fronts = lines_of(report), {front.score: front for front in report.fronts}
    scores = report.scores if verbose else report.shown
    blocks: list[Block] = [Say(headline(report), Tone.HEADLINE)]
    blocks += [score_table(report, lines, score, fronts[score.name]) for score in scores]
    if report.scores:
        blocks.append(cost_table(lines))
    for score in scores:
        blocks.append(front_table(report, score, fronts[score.name]))
        if verbose and fronts[score.name].beaten:
            blocks.append(beaten_table(report, score, fronts[score.name]))
    blocks += [Say(text, Tone.WARNING) for text in warnings(report)]
    return blocks + [Say(text) for text in notes(report)]


def sweep_page(report: SweepReport, *, verbose: bool = False) -> Page:
    """The page in a terminal."""
    return drawn_page(sweep_blocks(report, verbose=verbose))


def sweep_markdown(report: SweepReport, *, verbose: bool = False) -> str:
    """The page as Markdown."""
    return blocks_markdown(sweep_blocks(report, verbose=verbose))
