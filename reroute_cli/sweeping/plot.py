"""The plot of a sweep: scores against a cost, a panel for each method and score, as SVG or PNG.

The same report gives the same bytes: no dates, no random ids. Whatever text a report holds stays text.
Knows reports and matplotlib, which is loaded here and nowhere else; not how anything was measured.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reroute_cli.console.errors import Failure
from reroute_cli.console.output import write_file
from reroute_cli.records.sweep import SweepReport
from reroute_cli.reporting.score_words import count
from reroute_cli.reporting.words import short
from reroute_cli.sweeping.panel import (
    COLOURS,
    DENSE,
    FRONT,
    INK,
    MARKERS,
    draw_panel,
    place,
    point_id,
    right_end,
)
from reroute_cli.sweeping.sentences import COSTS
from reroute_cli.sweeping.tooltips import with_tooltips

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT, _ROOM = 8.6, 2.25, 1.0  # inches: of the figure, of a row of panels, of legend and footer
_DPI = 160
_NAME = 40  # characters of a method
_STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica"],
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "svg.fonttype": "none",
    "svg.hashsalt": "reroute",
    "figure.facecolor": "white",
}


def draw_plot(report: SweepReport, path: Path) -> None:
    """Write the plot, in the format that the suffix names; raises Failure where there is nothing to draw."""
    from matplotlib import style

    cost = report.fronts[0].cost if report.fronts else ""
    if not any(cost in arm.costs for arm in report.asked[1:]):
        raise Failure(
            f"--plot: the {COSTS.get(cost, 'costs')} of these arms are not known: try --against visual-tokens"
        )
    with style.context(["default", _STYLE]):
        figure = _figure(report, cost)
        data = io.BytesIO()
        if path.suffix.lower() == ".png":
            figure.savefig(data, format="png", dpi=_DPI, metadata={"Software": None})
            path.write_bytes(data.getvalue())
        else:
            figure.savefig(data, format="svg", metadata={"Date": None, "Creator": None})
            write_file(path, with_tooltips(data.getvalue(), _tooltips(report, cost)))


def _figure(report: SweepReport, cost: str) -> Figure:
    """A row of panels for each score, a column for each method."""
    from matplotlib.figure import Figure

    methods = list(dict.fromkeys(arm.method or "" for arm in report.asked[1:]))
    scores = report.shown
    width, height = max(_WIDTH, 2.0 * len(methods)), _ROOM + _HEIGHT * len(scores)
    figure = Figure(figsize=(width, height))
    grid = figure.subplots(len(scores), len(methods), sharex=True, sharey="row", squeeze=False)
    for row, score in zip(grid, scores, strict=True):
        for axes, method in zip(row, methods, strict=True):
            draw_panel(axes, report, score, method, cost)
        row[0].set_ylabel(score.title)
        if score.share:
            row[0].set_ylim(0, 1.04)
    for axes, method in zip(grid[0], methods, strict=True):
        axes.set_title(short(_title(method), _NAME), fontweight="bold")
    figure.align_ylabels()
    _around(figure, report, cost, height)
    return figure


def _around(figure: Figure, report: SweepReport, cost: str, height: float) -> None:
    """Axis label, limits, legend above and footer below, which share the room that is left for them."""
    from matplotlib.ticker import MaxNLocator

    for axes in figure.axes:
        axes.set_xlim(0, right_end(report, cost))
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    whole = "" if cost == "visual_tokens" else ", relative to dense"
    figure.supxlabel(f"{COSTS[cost]}{whole}", fontsize=9, y=0.36 / height)
    figure.legend(
        handles=_legend(report),
        loc="upper center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=6,
        frameon=False,
        handlelength=1.8,
        columnspacing=1.6,
    )
    figure.text(0.5, 0.1 / height, _footer(report), ha="center", fontsize=7.5, color="#666666")
    figure.subplots_adjust(
        left=0.075, right=0.985, top=1 - 0.5 / height, bottom=0.78 / height, wspace=0.09, hspace=0.12
    )


def _legend(report: SweepReport) -> list[Any]:
    from matplotlib.lines import Line2D

    actions = {arm.action for arm in report.asked[1:]}
    marks = [
        Line2D([], [], color=COLOURS[action], marker=MARKERS[action], markersize=5, label=action)
        for action in COLOURS
        if action in actions
    ]
    if any(arm.cuts for arm in report.asked):
        marks.append(
            Line2D(
                [],
                [],
                color=INK,
                marker="o",
                markersize=5,
                markerfacecolor="white",
                linestyle=":",
                label="layers as given",
            )
        )
    return [
        *marks,
        Line2D([], [], color=FRONT, linewidth=3.5, alpha=0.4, label="Pareto front of all arms"),
        Line2D([], [], color=DENSE, linewidth=1, linestyle=(0, (4, 3)), label="dense"),
    ]


def _footer(report: SweepReport) -> str:
    counts = report.counts
    asked = f"{count(counts.compared, 'question')} about {count(counts.pictures, 'picture')}"
    return f"{short(report.model.id, 40)} · {asked} · bars and band: 95% intervals"


def _title(method: str) -> str:
    from routing.methods import METHODS

    return METHODS[method].title if method in METHODS else method


def _tooltips(report: SweepReport, cost: str) -> Iterable[tuple[str, str]]:
    """(id of a point, what it says when the mouse is over it)."""
    for number, arm in enumerate(report.arms):
        for score in report.shown:
            if cost in arm.costs and score.name in arm.scores:
                value, x = arm.scores[score.name].value, place(arm, cost)[0]
                says = f"{arm.name}: {score.title} {value:.3f}, {COSTS[cost]} {x:.3g}"
                yield point_id(number, score), says
