"""Two runs compared, `reroute.comparison/1`: a verdict for every gate.

Knows the record; the words are the terminal's own.
"""

from __future__ import annotations

from collections.abc import Iterator

from reroute_cli.pages import cells
from reroute_cli.pages.pieces import Cell, Column, Part, Run, Table, Tile, role_of
from reroute_cli.records.comparison import Comparison, Row, Verdict
from reroute_cli.regression import words
from reroute_cli.reporting.words import short

_TONES = {Verdict.REGRESSION: "bad", Verdict.MISSING: "bad", Verdict.WIN: "good", Verdict.NOT_GATED: "faint"}
_ORDER = [Verdict.REGRESSION, Verdict.MISSING, Verdict.WIN, Verdict.OK, Verdict.NOT_GATED]


def part_of(report: Comparison, name: str) -> Part:
    """The section of a comparison."""
    gated = [row for row in report.rows if row.verdict is not Verdict.NOT_GATED]
    others = [row for row in report.rows if row.verdict is Verdict.NOT_GATED]
    run = Run(
        kind="compare",
        name=name,
        headline=words.headline(report),
        tiles=tuple(_tiles(report)),
        warnings=tuple(short(line, cells.TEXT) for line in words.failures(report)[: words.FEW]),
        tables=(_table("Every gate", gated), *_answers(report)),
        folded=(_table("Not gated", others), *_environment(report)),
        notes=tuple(_notes(report)),
    )
    return Part(run)


def _tiles(report: Comparison) -> Iterator[Tile]:
    yield Tile("verdict", "passed" if report.passed else "FAILED", f"{len(report.failed)} gates failed")
    yield Tile("answers that changed", f"{len(report.answers):,}")
    yield Tile(
        "same machine", "yes" if report.same_machine else "no", "times compare on the same machine only"
    )


def _table(caption: str, found: list[Row]) -> Table:
    columns = [Column("schedule"), Column("metric"), Column("verdict")]
    columns += [Column(text, right=True) for text in ("baseline", "current", "change", "limit")]
    return cells.table(caption, columns, [_row(row) for row in found])


def _row(row: Row) -> tuple[Cell, ...]:
    before, after = words.pair(row.baseline, row.current, row.unit)
    role = "" if row.arm is None else role_of(row.arm, row.arm.rpartition("-")[2])
    return (
        cells.name(row.arm or "the run", role),
        cells.name(row.name),
        Cell(words.verdict(row), float(_ORDER.index(row.verdict)), tone=_TONES.get(row.verdict, "")),
        Cell(before, row.baseline),
        Cell(after, row.current),
        Cell(words.change(row.change), row.change),
        cells.text(words.limit(row), 40),
    )


def _answers(report: Comparison) -> Iterator[Table]:
    if report.answers:
        columns = [Column(text) for text in ("schedule", "item", "baseline", "current")]
        rows = [
            (cells.name(one.arm), cells.name(one.item), cells.text(one.baseline), cells.text(one.current))
            for one in report.answers
        ]
        yield cells.table("Answers that changed", columns, rows)


def _environment(report: Comparison) -> Iterator[Table]:
    if report.environment:
        columns = [Column(text) for text in ("what", "baseline", "current")]
        rows = [
            (
                cells.name(one.name),
                *(
                    cells.text("unknown" if side is None else side, 120)
                    for side in (one.baseline, one.current)
                ),
            )
            for one in report.environment
        ]
        yield cells.table("What else differs", columns, rows)


def _notes(report: Comparison) -> Iterator[str]:
    for what, side in (("baseline", report.baseline), ("current", report.current)):
        commit = f", commit {short(side.commit, 12)}" if side.commit else ""
        yield f"{what}: {short(side.path or 'just measured', 120)}, made {short(side.created, 40)}{commit}"
    yield from (short(note, cells.TEXT) for note in report.notes)
    if report.accept:
        yield f"to accept the new numbers: {short(report.accept, cells.TEXT)}"
