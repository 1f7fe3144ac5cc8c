"""RefCOCO, RefCOCO+ and RefCOCOg: find what an expression describes.

Every expression of a row is a question, as in the original benchmark; the box is the row's. Scores: the
first box of the answer only, in pixels of the original image, Acc@0.5, mean IoU, centre in the box.

The hub's val has 8811 rows in RefCOCO and 7573 in RefCOCOg: by their numbers the 3811 and 2573 references of
the partitions that papers quote (unc, umd) together with the 5000 of the google partition's val, and
RefCOCO's test is that partition's (numbers: tensorflow.org/datasets/catalog/ref_coco). testA, testB and
RefCOCOg's test are of unc and umd alone: they stand first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from reroute_cli.console.errors import Failure
from reroute_cli.data.images import ImageSource
from reroute_cli.data.items import Item, Truth
from reroute_cli.measure.scores import BOX_CENTRE, BOX_HIT, BOX_IOU
from reroute_cli.studies.benchmarks.benchmark import Benchmark, Questions, Wanted, check_grounding, where_is
from reroute_cli.studies.benchmarks.rows import TableRow, open_table, questions_of, units_of

COLUMNS = ("question_id", "image", "answer", "bbox", "file_name")
_LONGEST_ANSWER = 128  # tokens; a box in JSON takes about 50
_ASKED = "every expression of a row is asked; the first box of an answer only; each family's prompt"
_MIXED = "; val holds the google partition's 5000 rows too"
_ANNOTATED = re.compile(r"(COCO_\w+?_\d{12})_\d+(\.\w+)?")  # an image's name with the annotation's number


def image_name(file_name: str) -> str:
    """COCO_train2014_000000581857_16.jpg -> COCO_train2014_000000581857.jpg: rows that share an image."""
    found = _ANNOTATED.fullmatch(file_name)
    return file_name if found is None else found.group(1) + (found.group(2) or "")


def _load(wanted: Wanted, source: str) -> Questions:
    check_grounding(wanted.family)
    table = open_table(wanted.data or source, None, wanted.split, COLUMNS)

    def expressions(answer: Any) -> int:
        """How many questions a row has; one that has none is one problem."""
        return max(1, len(answer)) if isinstance(answer, list) else 1

    def items(row: TableRow) -> Sequence[Item]:
        answers, name = row.values.get("answer"), image_name(row.name("file_name"))
        x, y, width, height = row.numbers("bbox", 4)
        if width <= 0 or height <= 0 or x < 0 or y < 0:
            raise Failure(
                f"{row.where} has [x, y, width, height] = {[x, y, width, height]} under 'bbox', no box"
            )
        truth = Truth("box", box=(x, y, x + width, y + height))
        data, key = row.image(), row.name("question_id")
        if not isinstance(answers, list) or not answers:
            raise Failure(f"{row.where} has no expression under 'answer': there is nothing to look for")
        return [
            Item(
                id=f"{key}/{index}",
                images=(ImageSource(name, name, data),),
                question=where_is(" ".join(str(answer).split()), wanted.family) if answer else "",
                label=truth,
            )
            for index, answer in enumerate(answers)
        ]

    return questions_of(table, COLUMNS, items, units_of(table, "answer", expressions), wanted.limit)


def _benchmark(name: str, title: str, dataset: str, splits: tuple[str, ...], notes: str = "") -> Benchmark:
    source = f"lmms-lab-encoder/{dataset}"
    return Benchmark(
        name=name,
        title=title,
        source=source,
        splits=splits,
        max_new_tokens=_LONGEST_ANSWER,
        load=lambda wanted: _load(wanted, source),
        scores=(BOX_HIT, BOX_IOU, BOX_CENTRE),
        notes=f"{_ASKED}{notes}",
    )


REFCOCO = _benchmark("refcoco", "RefCOCO", "RefCOCO", ("testA", "testB", "val", "test"), _MIXED)
REFCOCO_PLUS = _benchmark("refcoco+", "RefCOCO+", "RefCOCOplus", ("testA", "testB", "val"))
REFCOCOG = _benchmark("refcocog", "RefCOCOg", "RefCOCOg", ("test", "val"), _MIXED)
