"""One panel of a sweep's plot: a method's pruned and rerouted arms, over the front and the dense model.

Knows reports and what matplotlib's axes can draw; not the figure around them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reroute_cli.records.score import ScorePart
from reroute_cli.records.sweep import FrontPart, MetricPart, ScoreName, SweepArm, SweepReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/): told apart with any colour vision.
COLOURS = {"prune": "#D55E00", "reroute": "#0072B2"}
MARKERS = {"prune": "s", "reroute": "o"}
FRONT, DENSE, INK = "#8a8a8a", "#222222", "#333333"


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


def point_id(number: int, score: ScoreName) -> str:
    """The id of a point in the drawing: of an arm, by its place in the report, in a panel of this score."""
    return f"point-{number}-{score.name}"


def draw_panel(axes: Axes, report: SweepReport, score: ScoreName, method: str, cost: str) -> None:
    """One method: its pruned and its rerouted arms, over the front and the dense model."""
    _reference(axes, report, score)
    series: dict[tuple[str, str], list[_Placed]] = {}
    for number, arm in enumerate(report.arms):
        if arm.method == method and cost in arm.costs and score.name in arm.scores:
            placed = _Placed(point_id(number, score), arm, *place(arm, cost), arm.scores[score.name])
            series.setdefault((arm.place, arm.action or ""), []).append(placed)
    given = {key: min(points).score.value for key, points in series.items() if "@" in key[0]}
    for key, points in series.items():
        _series(axes, sorted(points), key[1], hollow=key in given)
        if key in given:
            above = key == max(given, key=lambda other: given[other])
            _label(axes, "@" + key[0].partition("@")[2], min(points), above=above)


def _reference(axes: Axes, report: SweepReport, score: ScoreName) -> None:
    """The dense model with its interval, and the front of all arms as the best that a cost buys."""
    dense = report.arms[0].scores.get(score.name)
    if dense is not None:
        axes.axhline(dense.value, color=DENSE, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        if dense.low is not None and dense.high is not None:
            axes.axhspan(dense.low, dense.high, color=DENSE, alpha=0.07, linewidth=0, zorder=0)
    front = next((front for front in report.fronts if front.score == score.name), None)
    points = [] if front is None else _front_points(report, front)
    if points:
        x, y = zip(*points, strict=True)
        axes.step(x, y, where="post", color=FRONT, linewidth=3.5, alpha=0.4, zorder=1.5)


def _front_points(report: SweepReport, front: FrontPart) -> list[tuple[float, float]]:
    """The front, going on to the right edge at the height of its last routed arm."""
    routed = [arm for arm in (report.arm(name) for name in front.arms) if arm.method is not None]
    points = [(place(arm, front.cost)[0], arm.scores[front.score].value) for arm in routed]
    return [*points, (right_end(report, front.cost), points[-1][1])] if points else []


def _series(axes: Axes, placed: Sequence[_Placed], action: str, *, hollow: bool) -> None:
    """One line with its points and their intervals; hollow and dotted where decision layers were typed."""
    colour = COLOURS.get(action, INK)
    x, y = [point.x for point in placed], [point.score.value for point in placed]
    axes.plot(x, y, color=colour, linewidth=1.1, linestyle=":" if hollow else "-", zorder=2)
    for point in placed:
        _bars(axes, point, colour)
        axes.plot(
            point.x,
            point.score.value,
            marker=MARKERS.get(action, "D"),
            markersize=5,
            markeredgecolor=colour,
            markerfacecolor="white" if hollow else colour,
            markeredgewidth=1.1,
            linestyle="",
            zorder=3,
            gid=point.id,
        )


def _bars(axes: Axes, point: _Placed, colour: str) -> None:
    """The intervals of a point's score and of its cost, where there are any."""
    score = point.score
    style: dict[str, Any] = {"color": colour, "linewidth": 1, "alpha": 0.55, "zorder": 2}
    if score.low is not None and score.high is not None:
        axes.vlines(point.x, score.low, score.high, **style)
    if point.right > point.left:
        axes.hlines(score.value, point.left, point.right, **style)


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


def place(arm: SweepArm, cost: str) -> tuple[float, float, float]:
    """Where an arm stands on the cost's axis, and its interval there."""
    part: MetricPart = arm.costs[cost]
    if cost == "visual_tokens_per_layer" or part.ratio_to_dense is None:
        return part.value, part.value, part.value
    return (
        part.ratio_to_dense,
        part.ratio_to_dense if part.low is None else part.low,
        part.ratio_to_dense if part.high is None else part.high,
    )


def right_end(report: SweepReport, cost: str) -> float:
    """The right end of the cost's axis: a little beyond the dearest routed arm."""
    return 1.08 * max(place(arm, cost)[2] for arm in report.asked[1:] if cost in arm.costs)
