"""Reading what a page is made of: records of every command, by whomever they were written.

Bounded, strict, one sentence for what is none of them. Knows the schemas; not what is drawn of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.output import to_line
from reroute_cli.records.migrate import upgraded
from reroute_cli.records.reading import answer_model, checked, holds_lines, json_of, read_content
from reroute_cli.records.schema import kind_of, model_of, name_of
from reroute_cli.views.answer import Answers, Judge, answers_document, arm_of
from reroute_cli.views.document import Tone
from reroute_cli.views.emit import document
from reroute_cli.views.wording import NAME, arm_title, different, short, texts
from reroute_cli.views.write.html import PageSection

if TYPE_CHECKING:
    from reroute_cli.records.answer import AnswerRecord, FailedAnswer
    from reroute_cli.records.sweep import SweepArm, SweepReport

MOST_INPUTS = 20
MOST_ANSWERS = 60_000
ALLOWED = "write one with profile, sweep, eval, tune, trace, batch, or compare --format json"
_KINDS = {name_of(kind): kind for kind in ("batch", "comparison", "eval", "report", "sweep", "trace", "tune")}
_NAME = 60


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
    if holds_lines(content):
        return Input(path, _answers(path, content))
    value = upgraded(json_of(path, content, remedy=ALLOWED))
    schema = _schema_of(path, value)
    if schema == name_of("answer"):  # one, maybe on many lines, as `ask -o` writes it
        return Input(path, _answers(path, f"{to_line(value)}\n".encode()))
    if schema not in _KINDS:
        known = ", ".join(_KINDS)
        raise Failure(f"'{path}' is {short(schema, _NAME)}, and a page is made of {known}: {ALLOWED}")
    return Input(path, checked(path, value, model_of(_KINDS[schema]), ALLOWED))


def _schema_of(path: Path, value: Any) -> str:
    schema = value.get("schema") if isinstance(value, dict) else None
    if not isinstance(schema, str) or not schema.startswith("reroute."):
        raise Failure(f'\'{path}\' is no record: it does not say "schema": "reroute.…"; {ALLOWED}')
    return schema


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
        if line.startswith(b'{"schema": "reroute.cost/'):
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
    value = upgraded(json_of(place, line, remedy=ALLOWED))
    schema = _schema_of(place, value)
    if schema != name_of("answer"):
        known = name_of("answer")
        raise Failure(f"'{place}' is {short(schema, _NAME)}, and files of lines hold {known}: {ALLOWED}")
    found: AnswerRecord | FailedAnswer = checked(place, value, answer_model(value), ALLOWED)
    return found


def sections_of(inputs: Sequence[Input]) -> list[PageSection]:
    """A section for each input, in the order in which they were named.

    Answers are right or wrong where a sweep among the inputs says so.
    """
    named = [(one.name, one.record) for one in inputs]
    records = [(name, record) for name, record in named if not isinstance(record, Answers)]
    judge = _judge_of([record for _, record in records if kind_of(record.schema_) == "sweep"])
    documents = [
        answers_document(record, judge) if isinstance(record, Answers) else document(record, verbose=True)
        for _, record in named
    ]
    told = different([(name, getattr(record, "generation", None)) for name, record in records])
    documents[0] = replace(documents[0], blocks=(*texts(Tone.WARNING, told), *documents[0].blocks))
    return [PageSection(name, found) for (name, _), found in zip(named, documents, strict=True)]


def _judge_of(reports: Sequence[SweepReport]) -> Judge:
    """Names the arm of an answer's record, and whether it is right, by the first sweep that asked it."""
    known: dict[str, tuple[SweepArm, dict[str, int]]] = {}
    for report in reversed(reports):
        index = {key: number for number, key in enumerate(report.items)}
        for arm in report.asked:
            first = None if arm.made is None else arm.made.first
            if first is not None:
                known[first.digest] = (arm, index)

    def judge(record: AnswerRecord) -> tuple[str, bool | None]:
        arm, index = known.get(record.schedule.digest, (None, {}))
        if arm is None or arm.right is None or record.id not in index:
            return arm_of(record)
        mark = arm.right[index[record.id]]
        return arm_title(arm.name, arm.action, NAME), {"1": True, "0": False}.get(mark)

    return judge
