"""From rows of a dataset to items of a run: which rows, what is in them, and what is wrong with them.

A row that is no question becomes an item with a problem: it is counted, reported and never stops a run. Knows
rows and items; not `datasets`, and not what any benchmark's columns mean.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reroute_cli.batch_inputs import BatchItem
from reroute_cli.benchmarks.table import Plain, Table
from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.output import shortened
from reroute_cli.images import as_text
from reroute_cli.inputs import spread
from reroute_cli.prompts import check_question

_SHOWN = 60


@dataclass(frozen=True)
class Row:
    """One row. number: counted from 0. where: how sentences name it."""

    number: int
    values: Plain
    where: str

    def text(self, column: str) -> str:
        """The text in a column; raises Failure where there is none."""
        if text := self.text_or_none(column):
            return text
        raise Failure(f"{self.where} has no text under '{column}', but {_shown(self.values.get(column))}")

    def text_or_none(self, column: str) -> str | None:
        """The text in a column without spaces around it; None for null, nothing and the word nan."""
        value = self.values.get(column)
        text = value.strip() if isinstance(value, str) else ""
        return text if text and text.casefold() != "nan" else None

    def name(self, column: str) -> str:
        """What a row or picture is called: text, or a whole number; raises Failure."""
        value = self.values.get(column)
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else self.text(column)

    def picture(self, column: str = "image") -> bytes:
        """The bytes of a picture; raises Failure where the row holds none. What they are is not looked at."""
        value = self.values.get(column)
        data = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(data, bytes) and data:
            return data
        raise Failure(f"{self.where} holds no picture under '{column}': fetch the dataset anew")

    def numbers(self, column: str, count: int) -> list[float]:
        """So many finite numbers in a column; raises Failure."""
        value = self.values.get(column)
        if isinstance(value, list) and len(value) == count and all(_is_finite(one) for one in value):
            return [float(one) for one in value]
        raise Failure(f"{self.where} has no {count} numbers under '{column}', but {_shown(value)}")


Question = tuple[int, int]  # a row by its number, and which of its questions, from 0
Unit = Sequence[Question]  # questions that belong together: all of them are asked or none
Chosen = dict[int, list[int]]  # which questions of which rows
Make = Callable[[Row], Sequence[BatchItem]]


@dataclass(frozen=True)
class Items:
    """The items of the chosen questions, read anew each time that it is iterated.

    make: all items of a row; it raises Failure for what is no question. No two items have the same id.
    """

    table: Table
    columns: tuple[str, ...]
    make: Make
    chosen: Chosen

    def __iter__(self) -> Iterator[BatchItem]:
        seen: Counter[str] = Counter()
        for row in self._rows():
            for item in self._made(row):
                seen[item.id] += 1
                count = seen[item.id]
                yield item if count == 1 else replace(item, id=f"{item.id}#{count}")

    def _rows(self) -> Iterator[Row]:
        """The chosen rows; nothing behind the last of them is read."""
        last = max(self.chosen, default=-1)
        if last < 0:
            return
        name = f"{as_text(self.table.place)} {self.table.split}"
        for number, values in enumerate(self.table.rows(self.columns)):
            if number in self.chosen:
                yield Row(number, values, f"row {number} of {name}")
            if number == last:
                return

    def _made(self, row: Row) -> Iterator[BatchItem]:
        try:
            made = self.make(row)
        except Failure as error:
            yield _problem(row, str(error))
            return
        for index in self.chosen[row.number]:
            try:
                check_question(made[index].question)
            except UsageError as error:
                yield _problem(row, f"{row.where}: {error}")
            else:
                yield replace(made[index], where=row.where)


def units_by(table: Table, column: str, key: Callable[[Any], Hashable]) -> list[Unit]:
    """Rows of one question each; those whose `column` has the same key belong together, None to no other."""
    units: dict[Hashable, list[Question]] = {}
    for number, values in enumerate(table.rows([column])):
        found = key(values.get(column))
        units.setdefault((number,) if found is None else found, []).append((number, 0))
    return list(units.values())


def units_of(table: Table, column: str, count: Callable[[Any], int]) -> list[Unit]:
    """Every question by itself, of rows that have as many as `column` says."""
    rows = enumerate(table.rows([column]))
    return [[(number, index)] for number, values in rows for index in range(count(values.get(column)))]


def choose(units: Sequence[Unit], limit: int | None) -> Chosen:
    """As many whole units as have at most `limit` questions, spread evenly over all; raises UsageError."""
    chosen: Chosen = {}
    for unit in units if limit is None else _within(units, limit):
        for number, index in unit:
            chosen.setdefault(number, []).append(index)
    return chosen


def _within(units: Sequence[Unit], limit: int) -> list[Unit]:
    for count in range(min(len(units), limit), 0, -1):
        taken = [units[index] for index in spread(len(units), count)]
        if sum(len(unit) for unit in taken) <= limit:
            return taken
    if not units:
        return []
    least = len(units[0])
    raise UsageError(
        f"--limit {limit} is less than one question, which is asked in {least} rows here: give more"
    )


def _problem(row: Row, sentence: str) -> BatchItem:
    return BatchItem(f"row {row.number}", "", "", "", where=row.where, problem=sentence)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: Any) -> str:
    """A value for a sentence: short, and never bytes."""
    text = "null" if value is None else repr(value)
    return shortened(text, _SHOWN)
