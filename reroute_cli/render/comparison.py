"""A comparison as a page: the table first, then one line a failed gate, then how to accept the new numbers.

Knows comparisons and their words; writes nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from itertools import groupby

from reroute_cli.console.output import clean, draw
from reroute_cli.records.comparison import ChangedAnswer, Comparison, Row, Verdict
from reroute_cli.regression import words
from reroute_cli.render.draw import DIM, STRONG, Page, Part, plain, table

MAIN_TIMES = ("ttft", "tpot", "e2e")
_STYLES = {
    Verdict.REGRESSION: "bold red",
    Verdict.MISSING: "bold red",
    Verdict.WIN: "green",
    Verdict.NOT_GATED: DIM,
}
_ANSWER_WIDTH = 60


def comparison_page(comparison: Comparison, *, verbose: bool = False) -> Page:
    """Who is compared, the table, the answers that changed, what differs around them, the headline."""
    parts: Page = [*_sides(comparison), plain(""), _table(comparison, verbose), plain("")]
    if comparison.answers:
        parts += [*_answers(comparison.answers, verbose), plain("")]
    parts += [plain(note, DIM) for note in comparison.notes]
    if comparison.environment:
        parts.append(plain(f"differs: {words.differences(comparison.environment)}", DIM))
    style = STRONG if comparison.passed else _STYLES[Verdict.REGRESSION]
    return [*parts, plain(words.headline(comparison), style)]


def comparison_lines(comparison: Comparison) -> list[str]:
    """A line for each failed gate, and the command that accepts what was measured; never wrapped."""
    if comparison.passed:
        return []
    accept = [f"to accept the new numbers: {comparison.accept}"] if comparison.accept else []
    return [*words.failures(comparison), *accept]


def comparison_text(comparison: Comparison, *, verbose: bool = False) -> str:
    """Page and lines as plain text, for a file."""
    page = draw(tuple(comparison_page(comparison, verbose=verbose)), StringIO())
    return page + "".join(f"{clean(line, one_line=True)}\n" for line in comparison_lines(comparison))


def rows_to_show(comparison: Comparison, *, verbose: bool = False) -> list[Row]:
    """Gated rows, what is missing, and the main times; all that there is when verbose."""
    return [
        row
        for row in comparison.rows
        if verbose or row.limit is not None or row.verdict is Verdict.MISSING or row.metric in MAIN_TIMES
    ]


def _sides(comparison: Comparison) -> Iterator[Part]:
    """'baseline main.json, 2026-01-01T00:00:00Z' and the same of the current report."""
    for name, side in (("baseline", comparison.baseline), ("current ", comparison.current)):
        yield plain(", ".join(filter(None, (f"{name} {side.path or ''}".rstrip(), side.created))), DIM)


def _table(comparison: Comparison, verbose: bool) -> Part:
    rows: list[tuple[object, ...]] = []
    for arm, group in groupby(rows_to_show(comparison, verbose=verbose), key=lambda row: row.arm):
        rows += [("",) * 6] if rows else []
        rows.append((plain(arm or "the run", STRONG), *("",) * 5))
        rows += map(_cells, group)
    return table(("", "baseline", "current", "change", "limit", "verdict"), rows, right=(1, 2, 3, 4))


def _cells(row: Row) -> tuple[object, ...]:
    before, after = (words.value(number, row.unit) for number in (row.baseline, row.current))
    said = plain(words.verdict(row), _STYLES.get(row.verdict, ""))
    name = row.name if row.limit is not None or row.stat != "mean" else row.metric
    return name, before, after, words.change(row.change), words.limit(row), said


def _answers(answers: list[ChangedAnswer], verbose: bool) -> Iterator[Part]:
    shown, more = words.changed_answers(answers, None if verbose else words.FEW)
    yield table(
        ("answers that changed", "item", "baseline", "current"),
        [(part.arm, part.item, _cut(part.baseline, verbose), _cut(part.current, verbose)) for part in shown],
    )
    if more:
        yield plain(f"{more}; -v shows all", DIM)


def _cut(text: str, verbose: bool) -> str:
    return text if verbose or len(text) <= _ANSWER_WIDTH else f"{text[: _ANSWER_WIDTH - 1]}…"
