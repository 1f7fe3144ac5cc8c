"""From inputs to the parts of a page: which section each kind of record gets.

Knows every kind; nothing of HTML.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from reroute_cli.pages.inputs import Answers, Input
from reroute_cli.pages.pieces import Part
from reroute_cli.pages.runs import answers, batch, comparison, evaluation, profile, sweep, trace, tune
from reroute_cli.records.sweep import SweepReport

_PARTS: dict[str, Callable[[Any, str], Part]] = {
    "reroute.batch/1": batch.part_of,
    "reroute.comparison/1": comparison.part_of,
    "reroute.eval/1": evaluation.part_of,
    "reroute.report/1": profile.part_of,
    "reroute.sweep/1": sweep.part_of,
    "reroute.trace/1": trace.part_of,
    "reroute.tune/1": tune.part_of,
}


def parts_of(inputs: Sequence[Input]) -> list[Part]:
    """A part for each input, in the order in which they were named.

    Answers are right or wrong where a sweep among the inputs says so.
    """
    judge = sweep.judge_of([one.record for one in inputs if isinstance(one.record, SweepReport)])
    return [_part(one, judge) for one in inputs]


def _part(one: Input, judge: answers.Judge) -> Part:
    if isinstance(one.record, Answers):
        return answers.part_of(one.record, one.name, judge)
    return _PARTS[one.record.schema_](one.record, one.name)
