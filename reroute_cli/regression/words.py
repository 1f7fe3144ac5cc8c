"""A comparison in words: numbers with units, changes, and one line for each gate that failed.

Shared by the terminal, Markdown and JUnit, which each escape for themselves. Knows comparisons and units;
draws nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from reroute_cli.console import units
from reroute_cli.records.comparison import ChangedAnswer, Comparison, Difference, ItemChanges, Row, Verdict
from reroute_cli.regression.verdicts import PRESENCE, relative_change

Number = int | float
EXACT = "exact"
FEW = 10

_SHOWN: dict[str, Callable[[float], str]] = {
    "s": units.seconds,
    "FLOPs": units.flops,
    "bytes": units.size,
    "×": lambda value: f"{value:.3f}×",
}
_SAID_UNITS = ("tokens/s", "J")  # the others say themselves by the metric's name
SAID = {
    Verdict.OK: "ok",
    Verdict.REGRESSION: "REGRESSION",
    Verdict.WIN: "win",
    Verdict.MISSING: "MISSING",
    Verdict.NOT_GATED: "not gated",
}


def value(number: Number | None, unit: str) -> str:
    """A number as people read it."""
    if number is None:
        return units.UNKNOWN
    shown = _SHOWN.get(unit)
    if shown:
        return shown(number)
    plain = f"{number:.4g}" if isinstance(number, float) else str(number)
    return f"{plain} {unit}" if unit in _SAID_UNITS else plain


def pair(before: Number | None, after: Number | None, unit: str) -> tuple[str, str]:
    """Two numbers; in full where scaling would make different ones look the same."""
    shown = value(before, unit), value(after, unit)
    if before is None or after is None or before == after or shown[0] != shown[1]:
        return shown
    return _full(before, unit), _full(after, unit)


def _full(number: Number, unit: str) -> str:
    digits = f"{number:,}" if isinstance(number, int) else f"{number:.12g}"
    return f"{digits} {unit}"


def change(part: float | None) -> str:
    """0.123 -> '+12.3%'; a change too small for that with the digits that show it."""
    if part is None:
        return units.UNKNOWN
    if part == 0:
        return "0%"
    percent = part * 100
    return f"{percent:+.1f}%" if abs(percent) >= 0.05 else f"{percent:+.1g}%"  # 0.05: else it rounds to 0.0


def limit(row: Row) -> str:
    """'exact', or the limit as it was written; '' where nothing gates."""
    if row.limit is None:
        return ""
    return EXACT if not row.limit.strip("0.%") else row.limit


def verdict(row: Row) -> str:
    """The verdict in a table, with how many items it stands on where they were compared one by one."""
    items = row.items
    if row.verdict is Verdict.REGRESSION and items and items.worse < items.total:
        return f"{SAID[row.verdict]} {items.worse}/{items.total}"
    return SAID[row.verdict]


def headline(comparison: Comparison) -> str:
    """How it ended and on how many gates it stands."""
    failed = len(comparison.failed)
    gated = sum(row.verdict is not Verdict.NOT_GATED for row in comparison.rows)
    wins = sum(row.verdict is Verdict.WIN for row in comparison.rows)
    better = f", {wins} better than the baseline" if wins and not comparison.strict else ""
    return f"{failed} of {gated} gates failed{better}" if failed else f"all {gated} gates passed{better}"


def failures(comparison: Comparison) -> list[str]:
    """One line for each gate that failed: arm, metric, what changed, the limit."""
    return [failure(row) for row in comparison.failed]


def failure(row: Row) -> str:
    """The line of one failed row."""
    name = f"{SAID[row.verdict].upper()} {row.arm or 'run'} {row.name}: "
    if row.verdict is Verdict.MISSING:
        return name + _missing(row)
    better = row.verdict is Verdict.WIN
    direction = "better" if better else "worse"
    stale = "; the baseline is out of date" if better else ""
    if row.stat == "count" and row.items:
        return f"{name}{row.current} of {row.items.total} answers differ; {_gated(row)}"
    if row.items and row.items.total > 1:
        return f"{name}{_items(row.items, direction, row.unit)}; {_gated(row)}{stale}"
    before, after = pair(row.baseline, row.current, row.unit)
    amount = "" if row.change is None else f", {direction} by {change(row.change).lstrip('+-')}"
    return f"{name}{before} → {after}{amount}; {_gated(row)}{stale}"


def _gated(row: Row) -> str:
    return "limit 0 (exact)" if limit(row) == EXACT else f"limit {row.limit}"


def _missing(row: Row) -> str:
    if row.metric == "items":
        assert isinstance(row.baseline, int) and isinstance(row.current, int)  # noqa: PT018
        return f"{row.baseline - row.current} of {row.baseline} are not in the current report: {row.reason}"
    return row.reason or "the current report lacks it"


def _items(items: ItemChanges, direction: str, unit: str) -> str:
    count = items.worse if direction == "worse" else items.better
    said = f"{count} of {items.total} items {direction}"
    if items.largest is None:
        return said
    before, after = pair(items.largest.baseline, items.largest.current, unit)
    moved = relative_change(items.largest.baseline, items.largest.current)
    return f"{said}, most of all {items.largest.id[:60]}: {before} → {after} ({change(moved)})"


def summary(comparison: Comparison) -> str:
    """The one sentence of exit code 3: which metrics of which arms failed."""
    failed = [_named(row) for row in comparison.failed]
    more = f" and {len(failed) - FEW} more" if len(failed) > FEW else ""
    return f"{headline(comparison)}: {', '.join(failed[:FEW])}{more}"


def _named(row: Row) -> str:
    if row.stat == PRESENCE:
        return f"the arm {row.arm}" if row.arm else f"missing {row.metric}"
    return f"{row.name} of {row.arm or 'the run'}"


def differences(parts: list[Difference]) -> str:
    """'torch 2.12.0 → 2.13.0 · python 3.11.2 → 3.12.1'."""
    return " · ".join(f"{part.name} {_known(part.baseline)} → {_known(part.current)}" for part in parts)


def _known(text: str | None) -> str:
    return "unknown" if text is None else text


def changed_answers(answers: list[ChangedAnswer], most: int | None) -> tuple[list[ChangedAnswer], str]:
    """The first of them, and what to say of the others."""
    if most is None or len(answers) <= most:
        return answers, ""
    return answers[:most], f"and {len(answers) - most} more"
