"""POPE: is there such an object in the image? Yes or no.

arxiv.org/abs/2305.10355. An answer that is neither word is wrong; it counts as neither in the share of yes
and is a yes that was missed in the recall. The questions of all three categories are pooled.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reroute_cli.console.errors import Failure
from reroute_cli.console.output import shortened
from reroute_cli.data.images import ImageSource
from reroute_cli.data.items import Item, Truth
from reroute_cli.measure.scores import Judged, Score, quotient, share_of
from reroute_cli.studies.benchmarks.benchmark import Benchmark, Questions, Wanted, judged_as, short_answer
from reroute_cli.studies.benchmarks.rows import TableRow, open_table, questions_of, units_by

COLUMNS = ("question_id", "question", "answer", "image_source", "image", "category")
_SOURCE = "lmms-lab-encoder/POPE"
_YES, _NO = "yes", "no"


def yes_or_no(row: TableRow, column: str = "answer") -> str:
    """The true answer, yes or no; raises Failure for anything else."""
    answer = row.text(column).casefold().strip(". ")
    if answer in (_YES, _NO):
        return answer
    raise Failure(f"{row.where} has '{shortened(answer)}' under '{column}', which is neither yes nor no")


def _load(wanted: Wanted) -> Questions:
    def items(row: TableRow) -> Sequence[Item]:
        category, name = row.text_or_none("category") or "", row.name("image_source")
        return [
            Item(
                id=f"{category}/{row.name('question_id')}",
                images=(ImageSource(name, name, row.image()),),
                question=short_answer(row.text("question"), wanted.family),
                label=Truth("yes_no", (yes_or_no(row),)),
                group=category,
            )
        ]

    table = open_table(wanted.data or _SOURCE, None, wanted.split, COLUMNS)
    return questions_of(table, COLUMNS, items, units_by(table, "question_id", lambda _: None), wanted.limit)


def _yes(judged: Sequence[Judged]) -> tuple[float, ...]:
    """Yes that is true, yes that was said, yes that is both."""
    truths = [row.label is not None and _YES in row.label.answers for row, _ in judged]
    said = [verdict.said == _YES for _, verdict in judged]
    return float(sum(truths)), float(sum(said)), float(sum(map(all, zip(truths, said, strict=True))))


_is_yes_no = judged_as("yes_no")

ACCURACY = share_of("pope_accuracy", "accuracy", _is_yes_no)
F1 = Score(  # the harmonic mean of precision and recall: 2 · both / (true + said)
    "pope_f1",
    "F1",
    _is_yes_no,
    _yes,
    lambda sums: quotient(np.stack([2 * sums[..., 2], sums[..., 0] + sums[..., 1]], axis=-1)),
)
PRECISION = Score("pope_precision", "precision", _is_yes_no, _yes, lambda sums: quotient(sums[..., [2, 1]]))
RECALL = Score("pope_recall", "recall", _is_yes_no, _yes, lambda sums: quotient(sums[..., [2, 0]]))
YES_RATIO = share_of(
    "pope_yes_ratio", "share of yes", _is_yes_no, lambda verdict: verdict.said == _YES, neutral=True
)
NEITHER = share_of(
    "pope_neither", "neither yes nor no", _is_yes_no, lambda verdict: verdict.said is None, neutral=True
)

BENCHMARK = Benchmark(
    name="pope",
    title="POPE",
    source=_SOURCE,
    splits=("test",),
    max_new_tokens=16,
    load=_load,
    scores=(ACCURACY, F1, PRECISION, RECALL, YES_RATIO, NEITHER),
    notes="exactly yes or no, but for case and punctuation around it; all three categories together",
)
