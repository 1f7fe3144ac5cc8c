"""Two runs compared, `reroute.comparison/1`: a verdict for every gate, and one line for each that failed.

Knows the record; no writer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from reroute_cli.console import units
from reroute_cli.console.output import clean
from reroute_cli.records.comparison import (
    PRESENCE,
    Comparison,
    ItemChanges,
    Row,
    Verdict,
    relative_change,
)
from reroute_cli.records.metrics import MAIN_TIMES, METRICS
from reroute_cli.views import wording as w
from reroute_cli.views.document import PAGE, TEXT, Block, Cell, Column, Document, Table, Text, Tile, Tone

Number = int | float
EXACT = "exact"
FEW = 10
_ANSWER = 60
_WIDEST = 16  # characters of a metric's name that leave the table within 80 columns
_TONES = {Verdict.REGRESSION: "bad", Verdict.MISSING: "bad", Verdict.WIN: "good", Verdict.NOT_GATED: "faint"}
_MARKS = {Verdict.REGRESSION: "❌", Verdict.MISSING: "❌", Verdict.WIN: "🎉", Verdict.OK: "✅"}
_ORDER = [Verdict.REGRESSION, Verdict.MISSING, Verdict.WIN, Verdict.OK, Verdict.NOT_GATED]
_SHOWN: dict[str, Callable[[float], str]] = {
    "s": units.seconds,
    "FLOPs": units.flops,
    "bytes": units.size,
    "×": lambda value: f"{value:.3f}×",
}
_SAID_UNITS = ("tokens/s", "J")  # the others say themselves by the metric's name
_SAID = {
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
    full = [f"{number:,}" if isinstance(number, int) else f"{number:.12g}" for number in (before, after)]
    return f"{full[0]} {unit}", f"{full[1]} {unit}"


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
        return f"{_SAID[row.verdict]} {items.worse}/{items.total}"
    return _SAID[row.verdict]


def document(comparison: Comparison, *, verbose: bool = False) -> Document:
    """Gates, answers that changed, what differs around them, how it ended, how to accept the new numbers."""
    first = [
        one
        for one in comparison.rows
        if one.limit is not None or one.verdict is Verdict.MISSING or one.metric in MAIN_TIMES
    ]
    others = [one for one in comparison.rows if one not in first]
    passed, same = comparison.passed, comparison.same_machine
    blocks: list[Block] = [*w.texts(Tone.NOTE, _sides(comparison))]
    blocks += [Tile("verdict", "passed" if passed else "FAILED", f"{len(comparison.failed)} gates failed")]
    blocks += [Tile("answers that changed", f"{len(comparison.answers):,}")]
    blocks += [Tile("same machine", "yes" if same else "no", "times compare on the same machine only")]
    blocks += [_rows("Every gate, and the main times", first)]
    if comparison.answers:
        long = 600 if verbose else _ANSWER
        changed = (
            (w.name(one.arm), w.name(one.item), w.words(one.baseline, long), w.words(one.current, long))
            for one in comparison.answers
        )
        headers = (Column("arm", "answers that changed"), *w.columns("item", "baseline", "current"))
        most, more = None if verbose else FEW, "and {} more; -v shows all"
        blocks.append(w.table("Answers that changed", headers, changed, most=most, more=more))
    if others:
        blocks.append(_rows("Not gated", others, folded=True, on=(TEXT, PAGE) if verbose else (PAGE,)))
    if comparison.environment:
        differing = [
            (
                w.name(part.name),
                w.words(part.baseline or "unknown", 120),
                w.words(part.current or "unknown", 120),
            )
            for part in comparison.environment
        ]
        told = (f"{what.text} {before.text} → {after.text}" for what, before, after in differing)
        blocks.append(Text(f"differs: {' · '.join(told)}", on=(TEXT,)))
        headers = w.columns("what", "baseline", "current")
        blocks.append(w.table("What else differs", headers, differing, folded=True, on=(PAGE,)))
    blocks += w.texts(Tone.NOTE, comparison.notes)
    blocks.append(Text(f"reroute compare: {headline(comparison)}", Tone.PASSED if passed else Tone.FAILED))
    if not passed:
        blocks += w.texts(Tone.WARNING, map(failure, comparison.failed), whole=True)
        if comparison.accept:
            blocks.append(Text("to accept the new numbers:", whole=True, command=comparison.accept))
    return Document("compare", tuple(blocks))


def _sides(comparison: Comparison) -> Iterator[str]:
    """'baseline main.json, 2026-01-01T00:00:00Z, commit 0123456789ab' and the same of the current report."""
    for what, side in (("baseline", comparison.baseline), ("current", comparison.current)):
        made = [w.short(side.path or "just measured", 120), w.short(side.created, 40)]
        if side.commit:  # with the "+" of a checkout that was changed
            commit = clean(side.commit, one_line=True)
            made.append(f"commit {commit[:12]}{'+' if commit.endswith('+') else ''}")
        yield f"{what} {', '.join(filter(None, made))}"


def _rows(
    caption: str, found: Sequence[Row], *, folded: bool = False, on: tuple[str, ...] = (TEXT, PAGE)
) -> Table:
    numbers = ("baseline", "current", "change", "limit")
    headers = w.columns("schedule", "metric", *numbers, "verdict", right=numbers)
    rows = []
    for one in found:
        arm = w.name(
            one.arm or "the run", "" if one.arm is None else w.role_of(one.arm, one.arm.rpartition("-")[2])
        )
        metric = one.name if one.limit is not None or one.stat != "mean" else one.metric
        metric = METRICS[metric].short if metric in METRICS and len(metric) > _WIDEST else metric
        shown = value(one.baseline, one.unit), value(one.current, one.unit)
        before, after = (
            pair(one.baseline, one.current, one.unit)
            if one.verdict in (Verdict.REGRESSION, Verdict.WIN)
            else shown
        )
        tone, mark = _TONES.get(one.verdict, ""), _MARKS.get(one.verdict, "")
        said = Cell(verdict(one), _ORDER.index(one.verdict), tone=tone, mark=mark)
        cells = (Cell(before, one.baseline), Cell(after, one.current), Cell(change(one.change), one.change))
        rows.append((arm, w.words(metric, w.NAME), *cells, w.words(limit(one), 40), said))
    return w.table(caption, headers, rows, grouped=True, folded=folded, on=on)


def headline(comparison: Comparison) -> str:
    """How it ended and on how many gates it stands."""
    failed = len(comparison.failed)
    gated = sum(row.verdict is not Verdict.NOT_GATED for row in comparison.rows)
    wins = sum(row.verdict is Verdict.WIN for row in comparison.rows)
    better = f", {wins} better than the baseline" if wins and not comparison.strict else ""
    return f"{failed} of {gated} gates failed{better}" if failed else f"all {gated} gates passed{better}"


def failure(row: Row) -> str:
    """The line of a gate that failed: arm, metric, what changed, the limit."""
    name = f"{_SAID[row.verdict].upper()} {row.arm or 'run'} {row.name}: "
    if row.verdict is Verdict.MISSING:
        if row.metric != "items":
            return name + (row.reason or "the current report lacks it")
        assert isinstance(row.baseline, int) and isinstance(row.current, int)  # noqa: PT018
        gone = f"{row.baseline - row.current} of {row.baseline}"
        return f"{name}{gone} are not in the current report: {row.reason}"
    better = row.verdict is Verdict.WIN
    direction = "better" if better else "worse"
    gate = "limit 0 (exact)" if limit(row) == EXACT else f"limit {row.limit}"
    stale = "; the baseline is out of date" if better else ""
    if row.stat == "count" and row.items:
        return f"{name}{row.current} of {row.items.total} answers differ; {gate}"
    if row.items and row.items.total > 1:
        return f"{name}{_items(row.items, direction, row.unit)}; {gate}{stale}"
    before, after = pair(row.baseline, row.current, row.unit)
    amount = "" if row.change is None else f", {direction} by {change(row.change).lstrip('+-')}"
    return f"{name}{before} → {after}{amount}; {gate}{stale}"


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
    failed = []
    for one in comparison.failed:
        if one.stat == PRESENCE:
            failed.append(f"the arm {one.arm}" if one.arm else f"missing {one.metric}")
        else:
            failed.append(f"{one.name} of {one.arm or 'the run'}")
    more = f" and {len(failed) - FEW} more" if len(failed) > FEW else ""
    return f"{headline(comparison)}: {', '.join(failed[:FEW])}{more}"
