"""GQA: questions about what is where and how it looks, answered in a word or two.

arxiv.org/abs/1902.09506, balanced test-dev questions. Exact match after case and punctuation are taken off.
The dataset keeps questions and images in two configurations, joined by the image's id: the 398 images
are held in main memory (65 MB) while the questions are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from reroute_cli.console.errors import Failure
from reroute_cli.console.output import shortened
from reroute_cli.data.images import ImageSource
from reroute_cli.data.items import Item, Truth
from reroute_cli.measure.scores import share_of
from reroute_cli.studies.benchmarks.benchmark import Benchmark, Questions, Wanted, judged_as, short_answer
from reroute_cli.studies.benchmarks.rows import DatasetSplit, TableRow, open_table, questions_of, units_by

COLUMNS = ("id", "imageId", "question", "answer", "types")
IMAGE_COLUMNS = ("id", "image")
QUESTIONS, IMAGES = "testdev_balanced_instructions", "testdev_balanced_images"
_SOURCE = "lmms-lab-encoder/GQA"


@dataclass(frozen=True)
class _Images:
    table: DatasetSplit

    @cached_property
    def rows(self) -> dict[str, TableRow]:
        """Rows with images, by the image's id; one without an id can't be asked for."""
        rows: dict[str, TableRow] = {}
        for number, values in enumerate(self.table.rows(IMAGE_COLUMNS)):
            row = TableRow(number, values, f"row {number} of {self.table.place} {IMAGES}")
            if name := row.text_or_none("id"):
                rows[name] = row
        return rows

    def of(self, name: str, row: TableRow) -> bytes:
        """The image that a row's question is about; raises Failure."""
        if found := self.rows.get(name):
            return found.image()
        raise Failure(f"{row.where} is about image '{shortened(name)}', which is not in {IMAGES}")


def _load(wanted: Wanted) -> Questions:
    place = wanted.data or _SOURCE
    table = open_table(place, QUESTIONS, wanted.split, COLUMNS)
    images = _Images(open_table(place, IMAGES, wanted.split, IMAGE_COLUMNS))

    def items(row: TableRow) -> Sequence[Item]:
        name, types = row.name("imageId"), row.values.get("types")
        kind = types.get("semantic") if isinstance(types, dict) else None
        return [
            Item(
                id=row.name("id"),
                images=(ImageSource(name, name, images.of(name, row)),),
                question=short_answer(row.text("question"), wanted.family),
                label=Truth("exact", (row.text("answer"),)),
                group=kind if isinstance(kind, str) else "",
            )
        ]

    return questions_of(table, COLUMNS, items, units_by(table, "id", lambda _: None), wanted.limit)


ACCURACY = share_of("gqa_accuracy", "accuracy", judged_as("exact"))

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
