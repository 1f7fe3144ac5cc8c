"""The plot of a sweep: scores against a cost, a panel for each method and score, as SVG or PNG.

The same report gives the same bytes: no dates, no random ids. Whatever text a report holds stays text.
Points of an SVG have tooltips: a <title> in the group of each (https://www.w3.org/TR/SVG2/struct.html#TitleElement).
Knows reports and matplotlib, which is loaded here and nowhere else; not how anything was measured.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from reroute_cli.console.errors import Failure
from reroute_cli.console.output import write_file
from reroute_cli.records.evaluation import ScorePart
from reroute_cli.records.sweep import MetricPart, ScoreName, SweepArm, SweepReport
from reroute_cli.views.sweep import COSTS
from reroute_cli.views.wording import count, short
from reroute_cli.views.write.ci import xml_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/): told apart with any colour vision.
COLOURS = {"prune": "#D55E00", "reroute": "#0072B2"}
MARKERS = {"prune": "s", "reroute": "o"}
FRONT, DENSE, INK = "#8a8a8a", "#222222", "#333333"
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
_SVG = "http://www.w3.org/2000/svg"
_NAMESPACES = {
    "": _SVG,
    "xlink": "http://www.w3.org/1999/xlink",
    "cc": "http://creativecommons.org/ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
}
_DOCTYPE = re.compile(rb"<!DOCTYPE[^>]*>\s*")


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
            return
        figure.savefig(data, format="svg", metadata={"Date": None, "Creator": None})
    says = {}  # by the id of a point: what it says when the mouse is over it
    for number, arm in enumerate(report.arms):
        for score in report.shown:
            if cost in arm.costs and score.name in arm.scores:
                value, x = arm.scores[score.name].value, _place(arm, cost)[0]
                told = f"{arm.name}: {score.title} {value:.3f}, {COSTS[cost]} {x:.3g}"
                says[_point_id(number, score)] = told
    write_file(path, _with_tooltips(data.getvalue(), says))


def _figure(report: SweepReport, cost: str) -> Figure:
    """A row of panels for each score, a column for each method; around them axes, a legend and a footer."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from routing.methods import METHODS

    methods = list(dict.fromkeys(arm.method or "" for arm in report.asked[1:]))
    scores = report.shown
    width, height = max(_WIDTH, 2.0 * len(methods)), _ROOM + _HEIGHT * len(scores)
    figure = Figure(figsize=(width, height))
    grid = figure.subplots(len(scores), len(methods), sharex=True, sharey="row", squeeze=False)
    for row, score in zip(grid, scores, strict=True):
        for axes, method in zip(row, methods, strict=True):
            _panel(axes, report, score, method, cost)
            axes.set_xlim(0, _right_end(report, cost))
            axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        row[0].set_ylabel(short(score.title, _NAME))
        if score.share:
            row[0].set_ylim(0, 1.04)
    for axes, method in zip(grid[0], methods, strict=True):
        title = METHODS[method].title if method in METHODS else method
        axes.set_title(short(title, _NAME), fontweight="bold")
    figure.align_ylabels()
    # label, legend and footer share the room that is left for them
    whole = "" if cost == "visual_tokens_per_layer" else ", relative to dense"
    figure.supxlabel(f"{COSTS[cost]}{whole}", fontsize=9, y=0.36 / height)
    top: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 1.0), "ncols": 6, "frameon": False}
    figure.legend(handles=_legend(report), handlelength=1.8, columnspacing=1.6, **top)
    counts = report.counts
    asked = f"{count(counts.compared, 'question')} about {count(counts.images, 'image')}"
    footer = f"{short(report.model.id, 40)} · {asked} · bars and band: 95% intervals"
    figure.text(0.5, 0.1 / height, footer, ha="center", fontsize=7.5, color="#666666")
    room: dict[str, float] = {"left": 0.075, "right": 0.985, "top": 1 - 0.5 / height, "bottom": 0.78 / height}
    figure.subplots_adjust(wspace=0.09, hspace=0.12, **room)
    return figure


def _legend(report: SweepReport) -> list[Any]:
    """The two actions, decision layers that were typed, the front and the dense model."""
    from matplotlib.lines import Line2D

    actions = {arm.action for arm in report.asked[1:]}
    marks = [
        Line2D([], [], color=COLOURS[action], marker=MARKERS[action], markersize=5, label=action)
        for action in COLOURS
        if action in actions
    ]
    if any(arm.decision_layers for arm in report.asked):
        given: dict[str, Any] = {
            "markersize": 5,
            "markerfacecolor": "white",
            "linestyle": ":",
            "label": "layers as given",
        }
        marks.append(Line2D([], [], color=INK, marker="o", **given))
    return [
        *marks,
        Line2D([], [], color=FRONT, linewidth=3.5, alpha=0.4, label="Pareto front of all arms"),
        Line2D([], [], color=DENSE, linewidth=1, linestyle=(0, (4, 3)), label="dense"),
    ]


@dataclass(frozen=True)
class _Placed:
    """A point: an arm, where it stands on the cost's axis with its interval there, and its score."""

    id: str
    arm: SweepArm
    x: float
    left: float
    right: float
    score: ScorePart

    def __lt__(self, other: _Placed) -> bool:
        return self.x < other.x


def _point_id(number: int, score: ScoreName) -> str:
    """The id of a point in the drawing: of an arm, by its place in the report, in a panel of this score."""
    return f"point-{number}-{score.name}"


def _panel(axes: Axes, report: SweepReport, score: ScoreName, method: str, cost: str) -> None:
    """One method: its pruned and its rerouted arms, over the front and the dense model."""
    _reference(axes, report, score)
    series: dict[tuple[str, str], list[_Placed]] = {}
    for number, arm in enumerate(report.arms):
        if arm.method == method and cost in arm.costs and score.name in arm.scores:
            placed = _Placed(_point_id(number, score), arm, *_place(arm, cost), arm.scores[score.name])
            series.setdefault((arm.place, arm.action or ""), []).append(placed)
    given = {key: min(points).score.value for key, points in series.items() if "@" in key[0]}
    highest = max(given, key=lambda key: given[key], default=None)
    for (place, action), points in series.items():
        hollow = (place, action) in given
        _series(axes, sorted(points), action, hollow=hollow)
        if hollow:
            layers = short("@" + place.partition("@")[2], _NAME)
            _label(axes, layers, min(points), above=(place, action) == highest)


def _reference(axes: Axes, report: SweepReport, score: ScoreName) -> None:
    """The dense model with its interval, and the front of all arms as the best that a cost buys.

    The front goes on to the right edge at the height of its last routed arm.
    """
    dense = report.arms[0].scores.get(score.name)
    if dense is not None:
        axes.axhline(dense.value, color=DENSE, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        if dense.low is not None and dense.high is not None:
            axes.axhspan(dense.low, dense.high, color=DENSE, alpha=0.07, linewidth=0, zorder=0)
    for front in (front for front in report.fronts if front.score == score.name):
        routed = [arm for arm in map(report.arm, front.arms) if arm.method is not None]
        x = [_place(arm, front.cost)[0] for arm in routed]
        y = [arm.scores[front.score].value for arm in routed]
        if routed:
            x, y = [*x, _right_end(report, front.cost)], [*y, y[-1]]
            axes.step(x, y, where="post", color=FRONT, linewidth=3.5, alpha=0.4, zorder=1.5)


def _series(axes: Axes, placed: Sequence[_Placed], action: str, *, hollow: bool) -> None:
    """One line with its points and the intervals of their scores and costs, where there are any.

    hollow: dotted, where decision layers were typed.
    """
    colour = COLOURS.get(action, INK)
    x, y = [point.x for point in placed], [point.score.value for point in placed]
    axes.plot(x, y, color=colour, linewidth=1.1, linestyle=":" if hollow else "-", zorder=2)
    bar: dict[str, Any] = {"color": colour, "linewidth": 1, "alpha": 0.55, "zorder": 2}
    face = "white" if hollow else colour
    edge: dict[str, Any] = {"markeredgecolor": colour, "markerfacecolor": face, "markeredgewidth": 1.1}
    mark: dict[str, Any] = {
        "marker": MARKERS.get(action, "D"),
        "markersize": 5,
        "linestyle": "",
        "zorder": 3,
    } | edge
    for point in placed:
        score = point.score
        if score.low is not None and score.high is not None:
            axes.vlines(point.x, score.low, score.high, **bar)
        if point.right > point.left:
            axes.hlines(score.value, point.left, point.right, **bar)
        axes.plot(point.x, score.value, gid=point.id, **mark)


def _label(axes: Axes, text: str, point: _Placed, *, above: bool) -> None:
    """A few words at a point, readable over lines."""
    from matplotlib.patheffects import withStroke

    axes.annotate(
        text,
        (point.x, point.score.value),
        (0, 7) if above else (0, -7),
        textcoords="offset points",
        horizontalalignment="center",
        verticalalignment="bottom" if above else "top",
        color=COLOURS.get(point.arm.action or "", INK),
        fontsize=7.5,
        zorder=4,
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
    )


def _place(arm: SweepArm, cost: str) -> tuple[float, float, float]:
    """Where an arm stands on the cost's axis, and its interval there."""
    part: MetricPart = arm.costs[cost]
    if cost == "visual_tokens_per_layer" or part.ratio_to_dense is None:
        return part.value, part.value, part.value
    return (
        part.ratio_to_dense,
        part.ratio_to_dense if part.low is None else part.low,
        part.ratio_to_dense if part.high is None else part.high,
    )


def _right_end(report: SweepReport, cost: str) -> float:
    """The right end of the cost's axis: a little beyond the dearest routed arm."""
    return 1.08 * max(_place(arm, cost)[2] for arm in report.asked[1:] if cost in arm.costs)


def _with_tooltips(svg: bytes, says: Mapping[str, str]) -> str:
    """The SVG with a title in the element of each id that it has; texts are escaped."""
    for prefix, namespace in _NAMESPACES.items():
        ElementTree.register_namespace(prefix, namespace)
    root = ElementTree.fromstring(_DOCTYPE.sub(b"", svg))  # noqa: S314  drawn by ourselves a moment ago
    groups = {element.get("id"): element for element in root.iter() if element.get("id")}
    for name, text in says.items():
        if name in groups:
            title = ElementTree.Element(f"{{{_SVG}}}title")
            title.text = xml_text(text)
            groups[name].insert(0, title)
    return ElementTree.tostring(root, encoding="unicode") + "\n"
