"""An evaluation's page in a terminal. Knows how Rich draws; not what is said."""

from __future__ import annotations

from reroute_cli.records.evaluation import Evaluation
from reroute_cli.render.draw import Page
from reroute_cli.render.report import drawn_page
from reroute_cli.reporting.evaluation import evaluation_page


def evaluation_drawn(report: Evaluation, *, verbose: bool = False) -> Page:
    """The page, drawn."""
    return drawn_page(evaluation_page(report, verbose=verbose))
