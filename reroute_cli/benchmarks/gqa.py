"""GQA: questions about what is where and how it looks, answered in a word or two.

arxiv.org/abs/1902.09506, balanced test-dev questions. Exact match after case and punctuation are taken off.
The dataset keeps questions and pictures in two configurations, joined by the picture's id: the 398 pictures
are held in main memory (65 MB) while the questions are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from reroute_cli.batch_inputs import BatchItem
from reroute_cli.benchmarks.benchmark import Benchmark, Questions, Wanted
from reroute_cli.benchmarks.prompts import short_answer
from reroute_cli.benchmarks.rows import Items, Row, choose, units_by
from reroute_cli.benchmarks.table import Table, open_table
from reroute_cli.console.errors import Failure
from reroute_cli.console.output import shortened
from reroute_cli.evaluation.score import share_of
from reroute_cli.evaluation.trial import Row as Asked
from reroute_cli.judges import Truth

COLUMNS = ("id", "imageId", "question", "answer", "types")
PICTURE_COLUMNS = ("id", "image")
QUESTIONS, PICTURES = "testdev_balanced_instructions", "testdev_balanced_images"
_SOURCE = "lmms-lab-encoder/GQA"


@dataclass(frozen=True)
class _Pictures:
    table: Table

    @cached_property
    def rows(self) -> dict[str, Row]:
        """Rows with pictures, by the picture's id; one without an id can't be asked for."""
        rows: dict[str, Row] = {}
        for number, values in enumerate(self.table.rows(PICTURE_COLUMNS)):
            row = Row(number, values, f"row {number} of {self.table.place} {PICTURES}")
            if name := row.text_or_none("id"):
                rows[name] = row
        return rows

    def of(self, name: str, row: Row) -> bytes:
        """The picture that a row's question is about; raises Failure."""
        if found := self.rows.get(name):
            return found.picture()
        raise Failure(f"{row.where} is about picture '{shortened(name)}', which is not in {PICTURES}")


def _load(wanted: Wanted) -> Questions:
    place = wanted.data or _SOURCE
    table = open_table(place, QUESTIONS, wanted.split, COLUMNS)
    pictures = _Pictures(open_table(place, PICTURES, wanted.split, PICTURE_COLUMNS))
    chosen = choose(units_by(table, "id", lambda _: None), wanted.limit)
    items = Items(table, COLUMNS, lambda row: _items(row, wanted.family, pictures), chosen)
    return Questions(items, len(chosen), table.source)


def _items(row: Row, family: str, pictures: _Pictures) -> Sequence[BatchItem]:
    name, types = row.name("imageId"), row.values.get("types")
    kind = types.get("semantic") if isinstance(types, dict) else None
    return [
        BatchItem(
            id=row.name("id"),
            image=name,
            path=name,
            question=short_answer(row.text("question"), family),
            truth=Truth("exact", (row.text("answer"),)),
            group=kind if isinstance(kind, str) else "",
            data=pictures.of(name, row),
        )
    ]


def _is_exact(row: Asked) -> bool:
    return row.truth is not None and row.truth.kind == "exact"


ACCURACY = share_of("gqa_accuracy", "accuracy", _is_exact)

BENCHMARK = Benchmark(
    name="gqa",
    title="GQA",
    source=_SOURCE,
    splits=("testdev",),
    max_new_tokens=16,
    load=_load,
    scores=(ACCURACY,),
    notes="balanced test-dev; exact match without case and punctuation",
)
