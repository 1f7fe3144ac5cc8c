"""From inputs to the parts of a page: which section each kind of record gets.

Knows every kind; nothing of HTML.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from reroute_cli.pages.inputs import Answers, Input
from reroute_cli.pages.pieces import Part
from reroute_cli.pages.runs import answers, batch, comparison, evaluation, profile, sweep, trace, tune
from reroute_cli.records.base import GenerationPart
from reroute_cli.records.schema import kind_of
from reroute_cli.records.sweep import SweepReport
from reroute_cli.reporting.generation import different

_PARTS: dict[str, Callable[[Any, str], Part]] = {
    "batch": batch.part_of,
    "comparison": comparison.part_of,
    "eval": evaluation.part_of,
    "report": profile.part_of,
    "sweep": sweep.part_of,
    "trace": trace.part_of,
    "tune": tune.part_of,
}


def parts_of(inputs: Sequence[Input]) -> list[Part]:
    """A part for each input, in the order in which they were named.

    Answers are right or wrong where a sweep among the inputs says so.
    """
    judge = sweep.judge_of([one.record for one in inputs if isinstance(one.record, SweepReport)])
    parts = [_part(one, judge) for one in inputs]
    sides = [(one.name, _generation(one.record)) for one in inputs if hasattr(one.record, "schema_")]
    if warnings := tuple(different(sides)):
        run = parts[0].run
        parts[0] = replace(parts[0], run=replace(run, warnings=(*warnings, *run.warnings)))
    return parts


def _generation(record: Any) -> GenerationPart | None:
    """The settings of a record's answers, None where it does not say."""
    found: GenerationPart | None = getattr(record, "generation", None)
    return found


def _part(one: Input, judge: answers.Judge) -> Part:
    if isinstance(one.record, Answers):
        return answers.part_of(one.record, one.name, judge)
    return _PARTS[kind_of(one.record.schema_)](one.record, one.name)
