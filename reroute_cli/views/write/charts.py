"""Figures as Plotly takes them: latencies as boxes, layers as steps, scores against costs.

Colours are Okabe and Ito's, told apart with any colour vision (https://jfly.uni-koeln.de/color/): the same
four roles everywhere. The stylesheet has them as variables of the same values, which a test checks; figures
are made in the light ones, and the page's script puts the dark ones in their place. Every name goes through
`plot_text`. Plotly itself is not loaded. Knows numbers and names; no records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median, quantiles
from typing import Any

from reroute_cli.views.document import NOT_KNOWN, Chart, Column, Table
from reroute_cli.views.wording import columns, counted, name, row, seconds, short, tokens

LIGHT = {
    "dense": "#4a4f59",
    "prune": "#d55e00",
    "reroute": "#0072b2",
    "other": "#8f4a80",
    "ink": "#1b1e24",
    "soft": "#5a606b",
    "rule": "#e1e4e8",
    "paper": "#ffffff",
}
DARK = {
    "dense": "#c3c8d1",
    "prune": "#f28c45",
    "reroute": "#56b4e9",
    "other": "#d9a0cc",
    "ink": "#e9ebee",
    "soft": "#a7adb8",
    "rule": "#2e333c",
    "paper": "#1b1e24",
}
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "triangle-down")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MOST_POINTS = 400  # dots of one arm; above them only those outside of its whiskers
MOST_VALUES = 8_000  # values of a figure; above them each arm has its share, evenly by rank: the box stays
FEWEST_VALUES = 101  # that an arm keeps in any case
_ROW = 44  # pixels of a box
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;", "%": "&#37;"})
_BYTES = tuple((1024.0**power, word) for power, word in enumerate(("B", "KiB", "MiB", "GiB", "TiB")))


def plot_text(text: str, most: int = 60) -> str:
    """Untrusted text for Plotly, which reads tags: one line, bounded, no tag, no template, no formula."""
    return short(text, most).translate(_ENTITIES)


@dataclass(frozen=True)
class ArmLine:
    """One arm's values, one a decoder layer, or one a measurement."""

    name: str
    role: str
    values: tuple[float, ...]
    kind: int = 0  # which method: arms of one method share symbol and dash

    def scaled(self, step: float) -> ArmLine:
        """The same in a larger unit."""
        return ArmLine(self.name, self.role, tuple(value / step for value in self.values), self.kind)


@dataclass(frozen=True)
class ArmPoint:
    """One arm on a plot of score against cost, with the interval of its score."""

    name: str
    x: float
    y: float
    low: float | None
    high: float | None
    text: str


@dataclass(frozen=True)
class ArmPoints:
    """Points that belong to one method and action, joined by a line."""

    name: str
    role: str
    kind: int
    points: tuple[ArmPoint, ...]


@dataclass(frozen=True)
class SearchDot:
    """One schedule of a search. weight: how many questions its score stands on."""

    role: str
    x: float
    y: float
    weight: int
    text: str


def times(title: str, lines: Sequence[ArmLine], note: str, span: str) -> Chart:
    """How a time of every schedule is spread: box plots, and their numbers. values: seconds."""
    largest = max(max(line.values) for line in lines)
    step, unit = (1.0, "s") if largest >= 1 else (1e-3, "ms")
    headers = columns(
        "schedule", "n", "min", "median", "p90", "max", right=("n", "min", "median", "p90", "max")
    )
    rows = []
    for line in lines:
        many = len(line.values) > 1
        p90 = quantiles(line.values, n=10, method="inclusive")[-1] if many else line.values[0]
        found = (min(line.values), median(line.values), p90, max(line.values))
        cells = (name(line.name, line.role), counted(len(line.values)), *map(seconds, found))
        rows.append(row(headers, cells))
    return Chart(
        title,
        f"{title} of every schedule as box plots, in {unit}",
        boxes([line.scaled(step) for line in lines], unit),
        Table(f"{title}, every value", headers, tuple(rows)),
        note,
        span,
    )


def layers(title: str, lines: Sequence[ArmLine], unit: str, note: str, span: str = "half") -> Chart:
    """A number of every decoder layer, means over items, of every schedule. unit: "bytes" are scaled."""
    largest = max((max(line.values, default=0) for line in lines), default=0)
    if unit == "bytes":
        step, unit = next((found for found in reversed(_BYTES) if largest >= found[0]), _BYTES[0])
        lines = [line.scaled(step) for line in lines]
    arms = (Column(str(at), line.name, right=True) for at, line in enumerate(lines))
    headers = (Column("layer", "layer", right=True), *arms)
    depth = max(len(line.values) for line in lines)
    rows = [
        row(
            headers,
            (
                counted(at),
                *(tokens(line.values[at]) if at < len(line.values) else NOT_KNOWN for line in lines),
            ),
        )
        for at in range(depth)
    ]
    label = f"{title} of every schedule, from the first decoder layer to the last"
    return Chart(
        title, label, steps(lines, unit), Table(f"{title} ({unit})", headers, tuple(rows)), note, span
    )


def layout(height: int, x: str, y: str, **more: Any) -> dict[str, Any]:
    """What every figure shares: quiet axes, no background, the page's type."""
    axis: dict[str, Any] = {
        "gridcolor": LIGHT["rule"],
        "linecolor": LIGHT["rule"],
        "zerolinecolor": LIGHT["rule"],
        "automargin": True,
        "title": {"standoff": 10, "font": {"size": 12, "color": LIGHT["soft"]}},
        "tickfont": {"size": 12, "color": LIGHT["ink"]},
    }
    return {
        "height": height,
        "margin": {"l": 8, "r": 14, "t": 8, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": _FONT, "size": 12, "color": LIGHT["ink"]},
        "hoverlabel": {"font": {"family": _FONT, "size": 12}},
        "xaxis": axis | {"title": axis["title"] | {"text": plot_text(x)}} | more.pop("xaxis", {}),
        "yaxis": axis | {"title": axis["title"] | {"text": plot_text(y)}} | more.pop("yaxis", {}),
        "legend": {
            "orientation": "h",
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "x": 0,
            "font": {"size": 12},
        },
        **more,
    }


def boxes(lines: Sequence[ArmLine], unit: str) -> dict[str, Any]:
    """Distributions, one under another: quartiles, and every value as a dot."""
    traces = [
        {
            "type": "box",
            "orientation": "h",
            "name": plot_text(line.name, 30),
            "x": by_rank(line.values, max(FEWEST_VALUES, MOST_VALUES // len(lines))),
            "boxpoints": "all" if len(line.values) <= MOST_POINTS else "outliers",
            "jitter": 0.6,
            "pointpos": 0,
            "quartilemethod": "linear",
            "marker": {"size": 4, "opacity": 0.55, "color": LIGHT[line.role]},
            "line": {"width": 1.5, "color": LIGHT[line.role]},
            "fillcolor": "rgba(128,128,128,0.12)",
            "hoverlabel": {"bgcolor": LIGHT["paper"], "font": {"color": LIGHT["ink"]}},
            "showlegend": False,
        }
        for line in lines
    ]
    axis = {"autorange": "reversed", "title": {"text": ""}, "showgrid": False}
    largest = max((max(line.values, default=0) for line in lines), default=0)
    names = layout(64 + _ROW * len(lines), unit, "", yaxis=axis, xaxis={"range": [0, largest * 1.06 or 1]})
    return {"data": traces, "layout": names | {"boxgap": 0.35}}


def by_rank(values: Sequence[float], most: int) -> list[float]:
    """The values to seven digits; of many, so many from the least to the largest, evenly by rank."""
    if len(values) > most:
        ordered, last = sorted(values), len(values) - 1
        values = [ordered[round(at * last / (most - 1))] for at in range(most)]
    return [float(f"{value:.7g}") for value in values]


def steps(lines: Sequence[ArmLine], unit: str) -> dict[str, Any]:
    """One value a decoder layer, as steps."""
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": plot_text(line.name, 30),
            "x": list(range(len(line.values))),
            "y": list(line.values),
            "line": {"shape": "hvh", "width": 2, "color": LIGHT[line.role], "dash": _dash(line.kind)},
            "marker": {"size": 5, "color": LIGHT[line.role], "symbol": _symbol(line.kind)},
            "hovertemplate": "layer %{x}: %{y:.4~g}",
        }
        for line in lines
    ]
    deepest = max((len(line.values) for line in lines), default=1)
    # every layer of a small model, every fourth of a large one
    tick = next(step for step in (1, 2, 4, 8, 16, 32, 1 << 20) if deepest <= 16 * step)
    ticks = {"dtick": tick, "showgrid": False}
    more = {"hovermode": "x unified", "showlegend": True}
    body = layout(
        280 + _legend(len(lines)), "decoder layer", unit, xaxis=ticks, yaxis={"rangemode": "tozero"}, **more
    )
    return {"data": traces, "layout": body}


def pareto(series: Sequence[ArmPoints], front: Sequence[ArmPoint], x: str, y: str) -> dict[str, Any]:
    """Scores with their intervals against a cost; the front as a grey staircase."""
    staircase = {
        "type": "scatter",
        "mode": "lines",
        "name": "Pareto front",
        "x": [point.x for point in front],
        "y": [point.y for point in front],
        "line": {"shape": "hv", "width": 6, "color": LIGHT["rule"]},
        "hoverinfo": "skip",
    }
    traces = [*([staircase] if len(front) > 1 else []), *map(_series, series)]
    height = 390 + _legend(len(traces))
    body = layout(height, x, y, xaxis={"rangemode": "tozero"}, showlegend=True, hovermode="closest")
    return {"data": traces, "layout": body}


def _series(one: ArmPoints) -> dict[str, Any]:
    above = [0.0 if point.high is None else max(0.0, point.high - point.y) for point in one.points]
    below = [0.0 if point.low is None else max(0.0, point.y - point.low) for point in one.points]
    colour = LIGHT[one.role]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": plot_text(one.name, 40),
        "x": [point.x for point in one.points],
        "y": [point.y for point in one.points],
        "text": [plot_text(point.text, 200) for point in one.points],
        "hovertemplate": "%{text}<extra></extra>",
        "line": {"width": 1.5, "color": colour, "dash": _dash(one.kind)},
        "marker": {"size": 10, "color": colour, "symbol": _symbol(one.kind)},
        "hoverlabel": {"bgcolor": LIGHT["paper"], "font": {"color": LIGHT["ink"]}},
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": above,
            "arrayminus": below,
            "thickness": 1,
            "width": 3,
            "color": colour,
        },
    }


def _legend(names: int) -> int:
    """Pixels of a legend below a figure, about four names a line."""
    return 20 * ceil(names / 4)


def _dash(kind: int) -> str:
    return DASHES[kind % len(DASHES)]


def _symbol(kind: int) -> str:
    return SYMBOLS[kind % len(SYMBOLS)]


def scatter(dots: Sequence[SearchDot], x: str, y: str) -> dict[str, Any]:
    """Dots, larger where more questions stand behind them."""
    heaviest = max(1, *(dot.weight for dot in dots)) if dots else 1
    traces = []
    for role in dict.fromkeys(dot.role for dot in dots):
        own = [dot for dot in dots if dot.role == role]
        marker = {
            "size": [6 + 10 * dot.weight / heaviest for dot in own],
            "color": LIGHT.get(role, LIGHT["other"]),
            "symbol": "circle" if role == "reroute" else "square",
            "opacity": 0.7,
            "line": {"width": 1, "color": LIGHT["paper"]},
        }
        trace = {
            "type": "scatter",
            "mode": "markers",
            "name": plot_text(role),
            "x": [dot.x for dot in own],
            "y": [dot.y for dot in own],
            "text": [plot_text(dot.text, 200) for dot in own],
            "hovertemplate": "%{text}<extra></extra>",
            "hoverlabel": {"bgcolor": LIGHT["paper"], "font": {"color": LIGHT["ink"]}},
            "marker": marker,
        }
        traces.append(trace)
    body = layout(360, x, y, xaxis={"rangemode": "tozero"}, showlegend=True, hovermode="closest")
    return {"data": traces, "layout": body}
