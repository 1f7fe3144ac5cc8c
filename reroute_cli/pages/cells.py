"""How numbers of records become cells, tiles and axes of a page.

The same words as in the terminal's tables. Knows units and parts of records; not which of them are shown.
"""

from __future__ import annotations

from collections.abc import Sequence

from reroute_cli.console import units
from reroute_cli.metrics import METRICS, Kind
from reroute_cli.pages.pieces import Cell, Column, Table
from reroute_cli.records.report import Ratio
from reroute_cli.records.report import Series as Values
from reroute_cli.records.score import DifferencePart, ScorePart
from reroute_cli.reporting.score_words import difference, plain_number, score, signed_number
from reroute_cli.reporting.words import number, quotient, short

MOST_ROWS = 300
NAME = 48  # characters of an arm, an item, a metric
TEXT = 600  # characters of an answer or a sentence


def table(caption: str, columns: Sequence[Column], rows: Sequence[tuple[Cell, ...]]) -> Table:
    """A table of bounded length."""
    return Table(caption, tuple(columns), tuple(rows[:MOST_ROWS]), max(0, len(rows) - MOST_ROWS))


def name(text: str, role: str = "") -> Cell:
    """A name in the first column."""
    return Cell(short(text, NAME), role=role)


def text(words: str, most: int = TEXT) -> Cell:
    """Words from outside."""
    return Cell(short(words, most))


def count(value: float | None) -> Cell:
    """A count as it is."""
    return Cell(units.UNKNOWN if value is None else f"{value:,.10g}", value)


def tokens(value: float | None) -> Cell:
    """Tokens, one decimal where there is a part."""
    return Cell(units.tokens(value), value)


def metric(key: str, values: Values | None) -> Cell:
    """A metric of one arm: the median of times with the 90th percentile below, the mean of all else."""
    if values is None:
        return Cell(units.UNKNOWN)
    timed = METRICS[key].kind is Kind.TIMED
    middle = values.p50 if timed else values.mean
    return Cell(number(key, middle), middle, note=f"p90 {number(key, values.p90)}" if timed else "")


def ratio(part: Ratio | None) -> Cell:
    """A ratio to dense, its interval below; coloured where the interval is all on one side of 1."""
    if part is None:
        return Cell(units.UNKNOWN)
    whole, _, interval = quotient(part).partition(" ")
    return Cell(whole, part.value, tone=_side(part), note=interval)


def _side(part: Ratio) -> str:
    low, high = part.low, part.high
    if low is None or high is None:
        return ""
    return "good" if high < 1 else "bad" if low > 1 else ""


def scored(part: ScorePart | None) -> Cell:
    """A score with its interval below."""
    if part is None:
        return Cell(units.UNKNOWN)
    return Cell(plain_number(part.value), part.value, note=score(part).partition(" ")[2])


def changed(part: DifferencePart | None) -> Cell:
    """A difference with its interval below; faint and after ≈ where the interval holds 0."""
    if part is None:
        return Cell(units.UNKNOWN)
    tone = "" if not part.is_real else "good" if part.value > 0 else "bad"
    shown = signed_number(part.value) if part.is_real else f"≈ {signed_number(part.value)}"
    return Cell(shown, part.value, tone=tone or "faint", note=difference(part).partition(" ")[2])


def scale_of(unit: str, largest: float) -> tuple[float, str]:
    """By what to divide values of this unit for an axis, and what to call it: (0.001, 'ms')."""
    if unit == "s":
        return (1.0, "s") if largest >= 1 else (1e-3, "ms")
    if unit == "bytes":
        steps = [(1024.0**power, word) for power, word in enumerate(("B", "KiB", "MiB", "GiB", "TiB"))]
        return next((step for step in reversed(steps) if largest >= step[0]), steps[0])
    return 1.0, unit


def value(key: str, amount: float) -> Cell:
    """One statistic of a metric."""
    return Cell(number(key, amount), amount)
