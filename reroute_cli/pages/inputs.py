"""Reading what a page is made of: records of every command, by whomever they were written.

Bounded, strict, one sentence for what is none of them. Knows the schemas; not what is drawn of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.records.files import json_of, read_content
from reroute_cli.reporting.words import short

if TYPE_CHECKING:
    from pydantic import BaseModel

    from reroute_cli.records.answer import AnswerRecord, FailedAnswer

MOST_INPUTS = 20
MOST_ANSWERS = 60_000
ALLOWED = "write one with profile, sweep, eval, tune, trace, batch, or compare --format json"
_OPENING = b'{"schema": "reroute.'
_NAME = 60


@dataclass(frozen=True)
class Answers:
    """The answers in a file of records; the last of each key. dropped: lines that are not here, and why."""

    records: list[AnswerRecord | FailedAnswer] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Input:
    """One file that was read. record: a pydantic record, or Answers."""

    path: Path
    record: Any

    @property
    def name(self) -> str:
        """The file's name as a page may show it."""
        return short(self.path.name, _NAME)


def read_inputs(paths: list[Path]) -> list[Input]:
    """Every file, read and checked (raises UsageError for too many, Failure for what is no record)."""
    if len(paths) > MOST_INPUTS:
        raise UsageError(f"{len(paths)} files were named and at most {MOST_INPUTS} fit on a page: name fewer")
    return [read_input(path) for path in paths]


def read_input(path: Path) -> Input:
    """A file of one record, or of JSON lines."""
    content = read_content(path, remedy=ALLOWED)
    if _is_lines(content):
        return Input(path, _answers(path, content))
    schema = _schema_of(path, json_of(path, content, remedy=ALLOWED))
    if schema == "reroute.answer/1":
        return Input(path, _answers(path, content))
    if schema not in _MODELS:
        known = ", ".join(sorted(_MODELS))
        raise Failure(f"'{path}' is {short(schema, _NAME)}, and a page is made of {known}: {ALLOWED}")
    return Input(path, _checked(path, content, schema, _MODELS[schema]()))


def _is_lines(content: bytes) -> bool:
    """Whether a second record follows the first one's line."""
    first, _, rest = content.lstrip().partition(b"\n")
    return first.startswith(_OPENING) and bool(rest.strip())


def _schema_of(path: Path, value: Any) -> str:
    schema = value.get("schema") if isinstance(value, dict) else None
    if not isinstance(schema, str) or not schema.startswith("reroute."):
        raise Failure(f'\'{path}\' is no record: it does not say "schema": "reroute.…"; {ALLOWED}')
    return schema


def _checked(path: Path, content: bytes, schema: str, model: type[BaseModel]) -> BaseModel:
    from pydantic import ValidationError

    from reroute_cli.records.files import first_mistake

    try:
        return model.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise Failure(f"'{path}' does not match {schema}: {first_mistake(error)}; {ALLOWED}") from error


def _answers(path: Path, content: bytes) -> Answers:
    """Every line that is an answer; a torn last line and blocks of a sweep's costs are passed over."""
    lines = [line for line in content.split(b"\n") if line.strip()]
    torn = not content.endswith(b"\n") and len(lines) > 1
    found: dict[str, AnswerRecord | FailedAnswer] = {}
    dropped, costs, more = [], 0, 0
    for number, line in enumerate(lines, start=1):
        if torn and number == len(lines):
            dropped.append("the last line is torn: whoever wrote it was stopped")
            continue
        if line.startswith(b'{"schema": "reroute.cost/1"'):
            costs += 1
        elif len(found) < MOST_ANSWERS:
            record = _answer(Path(f"{path}, line {number}"), line)
            found[record.key] = record
        else:
            more += 1
    if more:
        dropped.append(f"{more} lines after the first {MOST_ANSWERS} answers are not on this page")
    notes = [f"measured costs in the file ({costs}) are left to the sweep's own report"] if costs else []
    if not found:
        raise Failure(f"'{path}' holds no answers: {ALLOWED}")
    return Answers(list(found.values()), dropped, notes)


def _answer(place: Path, line: bytes) -> AnswerRecord | FailedAnswer:
    from reroute_cli.records.answer import AnswerRecord, FailedAnswer

    value = json_of(place, line, remedy=ALLOWED)
    schema = _schema_of(place, value)
    if schema != "reroute.answer/1":
        raise Failure(
            f"'{place}' is {short(schema, _NAME)}, and files of lines hold reroute.answer/1: {ALLOWED}"
        )
    model = FailedAnswer if value.get("error") is not None else AnswerRecord
    record: Any = _checked(place, line, schema, model)
    return record  # type: ignore[no-any-return]


def _profile() -> type[BaseModel]:
    from reroute_cli.records.report import Report

    return Report


def _comparison() -> type[BaseModel]:
    from reroute_cli.records.comparison import Comparison

    return Comparison


def _evaluation() -> type[BaseModel]:
    from reroute_cli.records.evaluation import Evaluation

    return Evaluation


def _sweep() -> type[BaseModel]:
    from reroute_cli.records.sweep import SweepReport

    return SweepReport


def _tune() -> type[BaseModel]:
    from reroute_cli.records.tune import TuneReport

    return TuneReport


def _batch() -> type[BaseModel]:
    from reroute_cli.records.batch import BatchSummary

    return BatchSummary


def _trace() -> type[BaseModel]:
    from reroute_cli.records.trace import TraceRecord

    return TraceRecord


_MODELS: dict[str, Callable[[], type[BaseModel]]] = {
    "reroute.batch/1": _batch,
    "reroute.comparison/1": _comparison,
    "reroute.eval/1": _evaluation,
    "reroute.report/1": _profile,
    "reroute.sweep/1": _sweep,
    "reroute.trace/1": _trace,
    "reroute.tune/1": _tune,
}
