"""MMBench (English, dev): questions with two to four options, asked once for every rotation of them.

arxiv.org/abs/2307.06281. Rows whose index is equal modulo a million are one question. Circular accuracy is
the share of questions that are right in all rotations; a question of which a rotation is missing has none.
Letters are read by rules (judges.chosen_letter), not by another model as in the paper.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.output import shortened
from reroute_cli.data.images import ImageSource
from reroute_cli.data.items import Item, Truth
from reroute_cli.measure.scores import Judged, Score, quotient, share_of
from reroute_cli.studies.benchmarks.benchmark import Benchmark, Questions, Wanted, judged_as, letter_answer
from reroute_cli.studies.benchmarks.rows import TableRow, open_table, questions_of, units_by

LETTERS = ("A", "B", "C", "D")
COLUMNS = ("index", "question", "hint", "answer", *LETTERS, "category", "image")
CONFIG = "en"
_SOURCE = "lmms-lab-encoder/MMBench"
_TEST = "test"
_ROUND = 1_000_000  # what a rotation adds to the index
_FEWEST = 2  # options


def question_of(index: Any) -> int | None:
    """The index that all rotations of a question share; None for what is no index."""
    try:
        return None if isinstance(index, float | bool) else int(index) % _ROUND
    except (TypeError, ValueError):
        return None


def _load(wanted: Wanted) -> Questions:
    if wanted.split == _TEST:
        raise UsageError("MMBench's test split has no answers, so nothing can be judged: take --split dev")
    names: dict[int, str] = {}  # of images, by question: the dataset has none, so their content names them

    def items(row: TableRow) -> Sequence[Item]:
        question = question_of(row.values.get("index"))
        if question is None:
            raise Failure(f"{row.where} has no whole number under 'index': its question can't be known")
        letters = ((letter, row.text_or_none(letter)) for letter in LETTERS)
        options = tuple((letter, text) for letter, text in letters if text is not None)
        if len(options) < _FEWEST:
            raise Failure(f"{row.where} has {len(options)} options under A to D: a choice needs two")
        answer, data = row.text_or_none("answer"), row.image()
        name = names.setdefault(question, hashlib.sha256(data).hexdigest()[:16])
        if answer is None:
            raise Failure(f"{row.where} has no answer, as all rows of the test split: take --split dev")
        if answer not in dict(options):
            raise Failure(
                f"{row.where} has '{shortened(answer)}' under 'answer', which is none of its options"
            )
        return [
            Item(
                id=row.name("index"),
                images=(ImageSource(name, name, data),),
                question=letter_answer(row.text("question"), options, row.text_or_none("hint")),
                label=Truth("choice", (answer,), options=options),
                group=row.text_or_none("category") or "",
            )
        ]

    table = open_table(wanted.data or _SOURCE, CONFIG, wanted.split, COLUMNS)
    return questions_of(table, COLUMNS, items, units_by(table, "index", question_of), wanted.limit)


def _circles(judged: Sequence[Judged]) -> tuple[float, ...]:
    """Of the whole questions about one image: how many are right in all rotations, and how many."""
    questions: dict[int | None, list[Judged]] = {}
    for one in judged:
        questions.setdefault(question_of(one[0].id), []).append(one)
    whole = []
    for circle in questions.values():
        truth = circle[0][0].label
        if truth is not None and len({row.id for row, _ in circle}) == len(truth.options):
            whole.append(circle)
    return float(sum(all(verdict.right for _, verdict in circle) for circle in whole)), float(len(whole))


_is_choice = judged_as("choice")

CIRCULAR = Score("mmbench_circular", "circular accuracy", _is_choice, _circles, quotient)
ACCURACY = share_of("mmbench_accuracy", "accuracy", _is_choice)

BENCHMARK = Benchmark(
    name="mmbench",
    title="MMBench",
    source=_SOURCE,
    splits=("dev",),
    max_new_tokens=32,
    load=_load,
    scores=(CIRCULAR, ACCURACY),
    notes="English; letters read by rules, no model judges; --limit takes all rotations of a question; the "
    "test split has no published answers",
)
