"""MMBench (English, dev): questions with two to four options, asked once for every rotation of them.

arxiv.org/abs/2307.06281. Rows whose index is equal modulo a million are one question. Circular accuracy is
the share of questions that are right in all rotations; a question of which a rotation is missing has none.
Letters are read by rules (judges.chosen_letter), not by another model as in the paper.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from reroute_cli.batch_inputs import BatchItem
from reroute_cli.benchmarks.benchmark import Benchmark, Questions, Wanted
from reroute_cli.benchmarks.prompts import letter_answer
from reroute_cli.benchmarks.rows import Items, Row, choose, units_by
from reroute_cli.benchmarks.table import open_table
from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.output import shortened
from reroute_cli.evaluation.score import Judged, Score, quotient, share_of
from reroute_cli.evaluation.trial import Row as Asked
from reroute_cli.judges import Truth

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
    table = open_table(wanted.data or _SOURCE, CONFIG, wanted.split, COLUMNS)
    chosen = choose(units_by(table, "index", question_of), wanted.limit)
    items = Items(table, COLUMNS, _Maker().items, chosen)
    return Questions(items, len(chosen), table.source)


@dataclass(frozen=True)
class _Maker:
    """names: of pictures, by question. The dataset has none, so a picture is called after its content."""

    names: dict[int, str] = field(default_factory=dict)

    def items(self, row: Row) -> Sequence[BatchItem]:
        """The one item of a row."""
        question = question_of(row.values.get("index"))
        if question is None:
            raise Failure(f"{row.where} has no whole number under 'index': its question can't be known")
        options, data = _options(row), row.picture()
        name = self.names.setdefault(question, hashlib.sha256(data).hexdigest()[:16])
        return [
            BatchItem(
                id=row.name("index"),
                image=name,
                path=name,
                question=letter_answer(row.text("question"), options, row.text_or_none("hint")),
                truth=Truth("choice", (_answer(row, options),), options=options),
                group=row.text_or_none("category") or "",
                data=data,
            )
        ]


def _options(row: Row) -> tuple[tuple[str, str], ...]:
    found = ((letter, row.text_or_none(letter)) for letter in LETTERS)
    options = tuple((letter, text) for letter, text in found if text is not None)
    if len(options) < _FEWEST:
        raise Failure(f"{row.where} has {len(options)} options under A to D: a choice needs two")
    return options


def _answer(row: Row, options: tuple[tuple[str, str], ...]) -> str:
    answer = row.text_or_none("answer")
    if answer is None:
        raise Failure(f"{row.where} has no answer, as all rows of the test split: take --split dev")
    if answer not in dict(options):
        raise Failure(f"{row.where} has '{shortened(answer)}' under 'answer', which is none of its options")
    return answer


def _is_choice(row: Asked) -> bool:
    return row.truth is not None and row.truth.kind == "choice"


def _circles(judged: Sequence[Judged]) -> tuple[float, ...]:
    """Of the whole questions about one picture: how many are right in all rotations, and how many."""
    questions: dict[int | None, list[Judged]] = {}
    for one in judged:
        questions.setdefault(question_of(one[0].id), []).append(one)
    whole = [circle for circle in questions.values() if _is_whole(circle)]
    return float(sum(all(verdict.right for _, verdict in circle) for circle in whole)), float(len(whole))


def _is_whole(circle: Sequence[Judged]) -> bool:
    truth = circle[0][0].truth
    return truth is not None and len({row.id for row, _ in circle}) == len(truth.options)


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
