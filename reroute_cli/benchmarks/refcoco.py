"""RefCOCO, RefCOCO+ and RefCOCOg: find what an expression describes.

Every expression of a row is a question, as in the original benchmark; the box is the row's. Scores: the
first box of the answer only, in pixels of the original picture, Acc@0.5, mean IoU, centre in the box.

The hub's val has 8811 rows in RefCOCO and 7573 in RefCOCOg: by their numbers the 3811 and 2573 references of
the partitions that papers quote (unc, umd) together with the 5000 of the google partition's val, and
RefCOCO's test is that partition's (numbers: tensorflow.org/datasets/catalog/ref_coco). testA, testB and
RefCOCOg's test are of unc and umd alone: they stand first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from reroute_cli.batch_inputs import BatchItem
from reroute_cli.benchmarks.benchmark import Benchmark, Questions, Wanted
from reroute_cli.benchmarks.prompts import check_grounding, where_is
from reroute_cli.benchmarks.rows import Items, Row, choose, units_of
from reroute_cli.benchmarks.table import open_table
from reroute_cli.boxes import Box
from reroute_cli.console.errors import Failure
from reroute_cli.evaluation.score import BOX_CENTRE, BOX_HIT, BOX_IOU
from reroute_cli.judges import Truth

COLUMNS = ("question_id", "image", "answer", "bbox", "file_name")
_LONGEST_ANSWER = 128  # tokens; a box in JSON takes about 50
_ASKED = "every expression of a row is asked; the first box of an answer only; each family's prompt"
_MIXED = "; val holds the google partition's 5000 rows too"
_ANNOTATED = re.compile(r"(COCO_\w+?_\d{12})_\d+(\.\w+)?")  # a picture's name with the annotation's number


def picture_name(file_name: str) -> str:
    """COCO_train2014_000000581857_16.jpg -> COCO_train2014_000000581857.jpg: rows that share a picture."""
    found = _ANNOTATED.fullmatch(file_name)
    return file_name if found is None else found.group(1) + (found.group(2) or "")


def _load(wanted: Wanted, source: str) -> Questions:
    check_grounding(wanted.family)
    table = open_table(wanted.data or source, None, wanted.split, COLUMNS)
    chosen = choose(units_of(table, "answer", _expressions), wanted.limit)
    items = Items(table, COLUMNS, lambda row: _items(row, wanted.family), chosen)
    return Questions(items, sum(map(len, chosen.values())), table.source)


def _expressions(answer: Any) -> int:
    """How many questions a row has; one that has none is one problem."""
    return max(1, len(answer)) if isinstance(answer, list) else 1


def _items(row: Row, family: str) -> Sequence[BatchItem]:
    answers, name = row.values.get("answer"), picture_name(row.name("file_name"))
    truth, data, key = Truth("box", box=_box(row)), row.picture(), row.name("question_id")
    if not isinstance(answers, list) or not answers:
        raise Failure(f"{row.where} has no expression under 'answer': there is nothing to look for")
    return [
        BatchItem(
            id=f"{key}/{index}",
            image=name,
            path=name,
            question=where_is(" ".join(str(answer or "").split()), family) if answer else "",
            truth=truth,
            data=data,
        )
        for index, answer in enumerate(answers)
    ]


def _box(row: Row) -> Box:
    """x, y, width, height as two corners."""
    x, y, width, height = row.numbers("bbox", 4)
    if width <= 0 or height <= 0 or x < 0 or y < 0:
        raise Failure(f"{row.where} has [x, y, width, height] = {[x, y, width, height]} under 'bbox', no box")
    return x, y, x + width, y + height


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
