"""MME: two questions about every image, one whose answer is yes and one whose answer is no.

arxiv.org/abs/2306.13394. A category scores 100 · (accuracy + accuracy+): the share of questions that are
right, and the share of images both of whose questions are. Perception is the sum over ten categories
(2000 at most), cognition over four (800). A sum that lacks a category is no sum and is not given.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reroute_cli.data.images import ImageSource
from reroute_cli.data.items import Item, Truth
from reroute_cli.measure.scores import Judged, JudgedItem, Numbers, Score, quotient, share_of
from reroute_cli.studies.benchmarks.benchmark import Benchmark, Questions, Wanted, judged_as, short_answer
from reroute_cli.studies.benchmarks.pope import yes_or_no
from reroute_cli.studies.benchmarks.rows import TableRow, open_table, questions_of, units_by

COLUMNS = ("question_id", "image", "question", "answer", "category")
PERCEPTION = (
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
)
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
_SOURCE = "lmms-lab-encoder/MME"
_ASKS = "Please answer yes or no."  # at the end of each question; the suffix takes its place
_PAIR = 2


def _load(wanted: Wanted) -> Questions:
    def items(row: TableRow) -> Sequence[Item]:
        name = row.name("question_id")
        question = row.text("question").removesuffix(_ASKS).rstrip()
        return [
            Item(
                id=name,
                images=(ImageSource(name, name, row.image()),),
                question=short_answer(question, wanted.family),
                label=Truth("mme", (yes_or_no(row),)),
                group=row.text("category"),
            )
        ]

    table = open_table(wanted.data or _SOURCE, None, wanted.split, COLUMNS)
    units = units_by(table, "question_id", lambda name: name)
    return questions_of(table, COLUMNS, items, units, wanted.limit)


_is_mme = judged_as("mme")


def _parts(judged: Sequence[Judged]) -> tuple[float, float, float, float]:
    """Of one image: right answers, questions, whether both are right, whether there are both."""
    right, pair = sum(verdict.right for _, verdict in judged), len(judged) == _PAIR
    return float(right), float(len(judged)), float(pair and right == _PAIR), float(pair)


def _total(name: str, title: str, categories: Sequence[str]) -> Score:
    """The sum over categories of 100 · (accuracy + accuracy+)."""

    def of(row: JudgedItem) -> bool:
        return _is_mme(row) and row.group in categories

    def count(judged: Sequence[Judged]) -> tuple[float, ...]:
        by_category = [[one for one in judged if one[0].group == category] for category in categories]
        return tuple(number for part in by_category for number in _parts(part))

    def value(sums: Numbers) -> Numbers:
        parts = sums.reshape(*sums.shape[:-1], len(categories), 4)
        found: Numbers = 100 * np.sum(quotient(parts[..., :2]) + quotient(parts[..., 2:]), axis=-1)
        return found

    return Score(name, title, of, count, value)


PERCEPTION_TOTAL = _total("mme_perception", "perception", PERCEPTION)
COGNITION_TOTAL = _total("mme_cognition", "cognition", COGNITION)
ACCURACY = share_of("mme_accuracy", "accuracy", _is_mme)
ACCURACY_PLUS = Score("mme_accuracy_plus", "accuracy+", _is_mme, lambda judged: _parts(judged)[2:], quotient)

BENCHMARK = Benchmark(
    name="mme",
    title="MME",
    source=_SOURCE,
    splits=("test",),
    max_new_tokens=16,
    load=_load,
    scores=(PERCEPTION_TOTAL, COGNITION_TOTAL, ACCURACY, ACCURACY_PLUS),
    notes="yes or no within an answer's first four characters, as MME reads it; --limit takes both questions "
    "of an image",
)
