"""A comparison as GitHub-flavoured Markdown, for a job summary or a pull-request comment.

Tables as in https://github.github.com/gfm/#tables-extension-. Every text from outside is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator

from reroute_cli.exports.text import markdown
from reroute_cli.records.comparison import ChangedAnswer, Comparison, Row, Verdict
from reroute_cli.regression import words
from reroute_cli.render.comparison import rows_to_show

_MARKS = {
    Verdict.REGRESSION: "❌",
    Verdict.MISSING: "❌",
    Verdict.WIN: "🎉",
    Verdict.OK: "✅",
    Verdict.NOT_GATED: "",
}


def export(comparison: Comparison) -> str:
    """Headline, what failed, the table, the answers that changed, what differs around them."""
    mark = "✅" if comparison.passed else "❌"
    lines = [f"### {mark} reroute compare: {markdown(words.headline(comparison))}", ""]
    if not comparison.passed:
        lines += [*(f"- {markdown(line)}" for line in words.failures(comparison)), ""]
    lines += [*_table(comparison), ""]
    if comparison.answers:
        lines += [*_answers(comparison.answers), ""]
    lines += [line for note in comparison.notes for line in (markdown(note), "")]
    if comparison.environment:
        lines += [f"Differs: {markdown(words.differences(comparison.environment))}", ""]
    if comparison.accept and not comparison.passed:
        lines += [f"To accept the new numbers: <code>{markdown(comparison.accept)}</code>", ""]
    return "\n".join(lines)


def _table(comparison: Comparison) -> Iterator[str]:
    yield "| arm | metric | baseline | current | change | limit | verdict |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | --- |"
    for row in rows_to_show(comparison):
        yield _line(row)


def _line(row: Row) -> str:
    before, after = (words.value(number, row.unit) for number in (row.baseline, row.current))
    cells = (row.arm or "the run", row.name, before, after, words.change(row.change), words.limit(row))
    mark = _MARKS[row.verdict]
    said = f"{mark} {markdown(words.verdict(row))}".strip()
    return f"| {' | '.join(map(markdown, cells))} | {said} |"


def _answers(answers: list[ChangedAnswer]) -> Iterator[str]:
    shown, more = words.changed_answers(answers, words.FEW)
    yield "| answers that changed | item | baseline | current |"
    yield "| --- | --- | --- | --- |"
    for part in shown:
        cells = (part.arm, part.item, part.baseline[:200], part.current[:200])
        yield f"| {' | '.join(map(markdown, cells))} |"
    if more:
        yield f"\n{more}"
