"""From a dataset to items of a run: which rows, what is in them, and what is wrong with them.

A row that is no question becomes an item with a problem: it is counted, reported and never stops a run. Rows
are read through `datasets` (the extra `eval`), from the hub or a folder that holds a copy, and never
downloaded as a whole. Images are handed on as the bytes that the dataset holds; a row's path to an image is
never opened: it could name any file. Knows `datasets` and its errors; not what any benchmark's columns mean.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.output import shortened
from reroute_cli.data.images import ImageSource, as_text
from reroute_cli.data.items import Item, spread
from reroute_cli.data.prompts import check_question
from reroute_cli.studies.benchmarks.benchmark import Questions

_SHOWN = 60
Question = tuple[int, int]  # a row by its number, and which of its questions, from 0
Unit = Sequence[Question]  # questions that belong together: all of them are asked or none
Chosen = dict[int, list[int]]  # which questions of which rows
Plain = dict[str, Any]  # one row by column; images as {"bytes": ..., "path": ...}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_REVISION = re.compile(r"@([0-9a-f]{40})(?:/|$)")
_OURS = (Failure, UsageError, MemoryError)
_TALKATIVE = ("datasets", "huggingface_hub", "fsspec", "httpx")


@dataclass(frozen=True)
class TableRow:
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
        """What a row or image is called: text, or a whole number; raises Failure."""
        value = self.values.get(column)
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else self.text(column)

    def image(self, column: str = "image") -> bytes:
        """The bytes of an image; raises Failure where the row holds none. What they are is not looked at."""
        value = self.values.get(column)
        data = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(data, bytes) and data:
            return data
        raise Failure(f"{self.where} holds no image under '{column}': fetch the dataset anew")

    def numbers(self, column: str, count: int) -> list[float]:
        """So many finite numbers in a column; raises Failure."""
        value = self.values.get(column)
        numbers = value if isinstance(value, list) else []
        plain = (isinstance(one, int | float) and not isinstance(one, bool) for one in numbers)
        if len(numbers) == count and all(plain) and all(map(math.isfinite, numbers)):
            return [float(one) for one in numbers]
        raise Failure(f"{self.where} has no {count} numbers under '{column}', but {_shown(value)}")


Make = Callable[[TableRow], Sequence[Item]]


@dataclass(frozen=True)
class TableItems:
    """The items of the chosen questions, read anew each time that it is iterated.

    make: all items of a row; it raises Failure for what is no question. No two items have the same id.
    """

    table: DatasetSplit
    columns: tuple[str, ...]
    make: Make
    chosen: Chosen

    def __iter__(self) -> Iterator[Item]:
        seen: Counter[str] = Counter()
        last = max(self.chosen, default=-1)
        if last < 0:
            return
        name = f"{as_text(self.table.place)} {self.table.split}"
        for number, values in enumerate(self.table.rows(self.columns)):
            if number in self.chosen:
                for item in self._made(TableRow(number, values, f"row {number} of {name}")):
                    seen[item.id] += 1
                    count = seen[item.id]
                    yield item if count == 1 else replace(item, id=f"{item.id}#{count}")
            if number == last:  # nothing behind it is read
                return

    def _made(self, row: TableRow) -> Iterator[Item]:
        """The chosen items of one row, each with what is wrong with it."""
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


def questions_of(
    table: DatasetSplit, columns: tuple[str, ...], make: Make, units: Sequence[Unit], limit: int | None
) -> Questions:
    """The items that `make` makes of the rows of these units, `limit` of them at most; raises UsageError."""
    chosen = choose(units, limit)
    return Questions(TableItems(table, columns, make, chosen), sum(map(len, chosen.values())), table.source)


def units_by(table: DatasetSplit, column: str, key: Callable[[Any], Hashable]) -> list[Unit]:
    """Rows of one question each; those whose `column` has the same key belong together, None to no other."""
    units: dict[Hashable, list[Question]] = {}
    for number, values in enumerate(table.rows([column])):
        found = key(values.get(column))
        units.setdefault((number,) if found is None else found, []).append((number, 0))
    return list(units.values())


def units_of(table: DatasetSplit, column: str, count: Callable[[Any], int]) -> list[Unit]:
    """Every question by itself, of rows that have as many as `column` says."""
    rows = enumerate(table.rows([column]))
    return [[(number, index)] for number, values in rows for index in range(count(values.get(column)))]


def choose(units: Sequence[Unit], limit: int | None) -> Chosen:
    """As many whole units as have at most `limit` questions, spread evenly over all; raises UsageError."""
    counts = [len(units)] if limit is None else range(min(len(units), limit), 0, -1)
    for count in counts:
        taken = [units[index] for index in spread(len(units), count)]
        if limit is None or sum(map(len, taken)) <= limit:
            chosen: Chosen = {}
            for number, index in (question for unit in taken for question in unit):
                chosen.setdefault(number, []).append(index)
            return chosen
    if not units:
        return {}
    raise UsageError(
        f"--limit {limit} is less than one question, which is asked in {len(units[0])} rows here: give more"
    )


def _problem(row: TableRow, sentence: str) -> Item:
    return Item(f"row {row.number}", (ImageSource("", ""),), "", where=row.where, problem=sentence)


def _shown(value: Any) -> str:
    """A value for a sentence: short, and never bytes."""
    text = "null" if value is None else repr(value)
    return shortened(text, _SHOWN)


@dataclass(frozen=True)
class DatasetSplit:
    """One split, opened: its dataset and columns are known, its rows are not read yet.

    place: hub id or folder. config: the dataset's configuration, None for its only one. revision: the hub's
    commit, to which all later reading is held; None of a folder. images: columns that hold images.
    """

    place: str
    config: str | None
    split: str
    revision: str | None
    images: tuple[str, ...]

    @property
    def source(self) -> dict[str, str]:
        """Where the rows come from, for reports."""
        where = "folder" if is_folder(self.place) else "dataset"
        known = {"config": self.config, "split": self.split, "revision": self.revision}
        return {where: as_text(self.place)} | {key: value for key, value in known.items() if value}

    def rows(self, columns: Sequence[str]) -> Iterator[Plain]:
        """Every row with these of its columns, in the dataset's order; raises Failure where reading ends."""
        from datasets import Image

        number = 0
        try:
            builder = _builder(self.place, self.config, self.revision, columns)
            stream = builder.as_streaming_dataset(split=self.split).select_columns(list(columns))
            for column in set(columns) & set(self.images):
                stream = stream.cast_column(column, Image(decode=False))
            for row in stream:
                yield row
                number += 1
        except _OURS:
            raise
        except Exception as error:
            what = f"reading '{as_text(self.place)}' ended after {number} rows"
            raise Failure(_sentence(self.place, what, error)) from error


def open_table(place: str, config: str | None, split: str, needed: Sequence[str]) -> DatasetSplit:
    """A split with these columns; raises UsageError for what can't be a dataset, Failure for what is none."""
    if not is_folder(place) and not _HUB_ID.fullmatch(place):
        raise UsageError(
            f"there is no folder '{as_text(place)}', and a dataset of the hub is OWNER/NAME: check --data"
        )
    if find_spec("datasets") is None:
        raise Failure("datasets of the hub are read by the library `datasets`: pip install 'reroute[eval]'")
    shown = as_text(place)
    try:
        builder = _builder(place, config, None, None)
        splits = [str(name) for name in builder.config.data_files or ()]
        features = (builder.as_streaming_dataset(split=split).features if split in splits else None) or {}
    except Exception as error:
        # Files, the hub, the network, Arrow: each has errors of its own
        raise Failure(_sentence(place, f"'{shown}' can't be read", error)) from error
    if split not in splits:
        raise Failure(
            f"'{shown}' has no split '{split}', but {', '.join(splits) or 'none at all'}: check --data"
        )
    if missing := [name for name in needed if name not in features]:
        raise Failure(
            f"'{shown}' has no column '{missing[0]}' in split '{split}', but "
            f"{', '.join(features)}: give --data a copy of the benchmark's own dataset"
        )
    images = tuple(name for name in needed if type(features[name]).__name__ == "Image")
    found = _REVISION.search(str(builder.base_path))
    return DatasetSplit(place, config, split, found.group(1) if found else None, images)


def is_folder(place: str) -> bool:
    """Whether a place is a folder of this machine, rather than a hub id."""
    try:
        return bool(place) and Path(place).is_dir()
    except (OSError, ValueError):  # a name that no folder can have
        return False


def _builder(place: str, config: str | None, revision: str | None, columns: Sequence[str] | None) -> Any:
    """What `datasets` knows of a dataset before any row is read; of Parquet, only `columns` will be read."""
    from datasets import disable_progress_bars, load_dataset_builder

    disable_progress_bars()
    for name in _TALKATIVE:  # what matters of it is raised
        logging.getLogger(name).setLevel(logging.CRITICAL)
    path = str(Path(place).resolve()) if is_folder(place) else place
    builder = load_dataset_builder(path, config, revision=revision)
    if columns is None or builder.name != "parquet":
        return builder
    return load_dataset_builder(path, config, revision=revision, columns=list(columns))


def _sentence(place: str, what: str, error: Exception) -> str:
    """What could not be done, why, and what helps."""
    text = " ".join(str(error).split())[:300] or type(error).__name__
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "gated" in text.lower():
        remedy = f"accept its terms at huggingface.co/datasets/{place}, then `hf auth login`"
    elif "OfflineModeIsEnabled" in text or "OfflineModeIsEnabled" in kinds:
        remedy = "unset HF_HUB_OFFLINE, or give --data a folder that holds a copy"
    elif kinds & {"ConnectionError", "TimeoutError", "TransportError", "HfHubHTTPError"}:
        remedy = "check the network and try again, or give --data a folder that holds a copy"
    elif is_folder(place):
        remedy = (
            "give --data a copy of the benchmark's dataset, with its README.md, as `hf download` makes it"
        )
    else:
        remedy = "check --data, or fetch it with `hf download --repo-type dataset` and give that folder"
    return f"{what} ({text}): {remedy}"
