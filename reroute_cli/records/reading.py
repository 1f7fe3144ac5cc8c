"""Reading a report that anybody may have written: the whole file checked, one sentence when it is not one.

Never follows what a file says, never reads without bound, never waits on a pipe. Knows the schema and not
what a report is read for.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reroute_cli.console.errors import CliError, Failure, NotComparable
from reroute_cli.records.metrics import METRICS
from reroute_cli.records.migrate import upgraded
from reroute_cli.records.schema import KINDS, kind_of, model_of, name_of

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    from reroute_cli.records.report import Measured, Report

SCHEMA = name_of("report")
LARGEST = 200 * 1024 * 1024
LARGEST_NUMBER = 10**30
REMEDY = "make one with 'reroute profile -o FILE'"
ANY_REMEDY = "name what a command wrote with -o, or as JSON"
_OPENING = b'{"schema": "reroute.'

_SCHEMA_NAME = re.compile(r"reroute\.[a-z_]{1,40}/[0-9]{1,6}")


def read_report(path: Path, *, absent: type[CliError] = Failure) -> Report:
    """The report in a file (raises Failure, NotComparable for another schema, `absent` for no file)."""
    value = upgraded(json_of(path, read_content(path, absent=absent)))
    named = value.get("schema") if isinstance(value, dict) else None
    if not isinstance(named, str) or not _SCHEMA_NAME.fullmatch(named):
        raise Failure(f'\'{path}\' is no report: it does not say "schema": "{SCHEMA}"; {REMEDY}')
    if named != SCHEMA:
        raise NotComparable(f"'{path}' is {named}, this reroute compares {SCHEMA}: {REMEDY}")
    report: Report = checked(path, value, model_of("report"), REMEDY)
    for part in (report.process, *report.arms):
        _check_units(path, part)
    return report


def read_records(source: Path | bytes) -> Any:
    """The record that a file or its bytes hold, or the list of those in its lines; version 1 is migrated.

    A last line that its writer did not finish is left out. Raises Failure with one sentence for whatever is
    no record.
    """
    path = Path("the given bytes") if isinstance(source, bytes) else source
    content = source if isinstance(source, bytes) else read_content(path, remedy=ANY_REMEDY)
    if len(content) > LARGEST:
        raise Failure(f"'{path}' is too large for a record: more than {LARGEST // 1024**2} MiB")
    lines = [line for line in content.split(b"\n") if line.strip()]
    if not holds_lines(content) and not (path.suffix == ".jsonl" and len(lines) == 1):
        return record_of(path, json_of(path, content, remedy=ANY_REMEDY))
    found = []
    for number, line in enumerate(lines, start=1):
        place = Path(f"{path}, line {number}")
        try:
            value = json_of(place, line, remedy=ANY_REMEDY)
        except Failure:
            if number == len(lines) > 1 and not content.endswith(b"\n"):
                break
            raise
        found.append(record_of(place, value))
    return found


def holds_lines(content: bytes) -> bool:
    """Whether these are records of one line each: a second one follows the first one's line."""
    first, _, rest = content.lstrip().partition(b"\n")
    return first.startswith(_OPENING) and bool(rest.strip())


def record_of(path: Path, value: Any) -> Any:
    """The record of any kind that plain values stand for; raises Failure. path: where they are from."""
    value = upgraded(value)
    named = value.get("schema") if isinstance(value, dict) else None
    if not isinstance(named, str) or not _SCHEMA_NAME.fullmatch(named):
        raise Failure(f'\'{path}\' is no record: it does not say "schema": "reroute.…"; {ANY_REMEDY}')
    kind = kind_of(named)
    if kind not in KINDS or named != name_of(kind):
        raise Failure(f"'{path}' is {named}, which this reroute does not read: {ANY_REMEDY}")
    model = answer_model(value) if kind == "answer" else model_of(kind)
    record = checked(path, value, model, ANY_REMEDY)
    if kind == "report":
        for part in (record.process, *record.arms):
            _check_units(path, part)
    return record


def answer_model(value: Mapping[str, Any]) -> type[BaseModel]:
    """The model of an answer's plain values: an item that has none says its error."""
    from reroute_cli.records.answer import AnswerRecord, FailedAnswer

    return FailedAnswer if value.get("error") is not None else AnswerRecord


def read_content(path: Path, *, absent: type[CliError] = Failure, remedy: str = REMEDY) -> bytes:
    """The bytes of a regular file; a folder, a pipe, a device and too large a file are refused unread."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise absent(f"there is no report '{path}': {remedy}") from error
        if error.errno == errno.EISDIR:
            raise Failure(f"'{path}' is a folder: name a report, or {remedy}") from error
        raise Failure(f"'{path}' can't be read: {error.strerror}") from error
    except ValueError as error:
        raise absent(f"'{path}' is no file name: {error}") from error
    mode, size = os.fstat(handle).st_mode, os.fstat(handle).st_size
    if not stat.S_ISREG(mode):
        os.close(handle)
        kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise Failure(f"'{path}' is {kind}: name a report, or {remedy}")
    with os.fdopen(handle, "rb") as file:
        content = file.read(LARGEST + 1) if size <= LARGEST else b""
    if max(size, len(content)) > LARGEST:
        raise Failure(f"'{path}' is too large for a report: more than {LARGEST // 1024**2} MiB")
    return content


def json_of(path: Path, content: bytes, *, remedy: str = REMEDY) -> Any:
    """JSON by the letter: UTF-8, no NaN, no name twice, no number that arithmetic can't hold."""
    try:
        return json.loads(
            content.decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_float=_float,
            parse_int=_int,
            object_pairs_hook=_object,
        )
    except RecursionError as error:
        raise Failure(f"'{path}' is no report: it is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise Failure(f"'{path}' is no report: byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        where = f"{error.msg} (line {error.lineno}, column {error.colno})"
        ends = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated")
        cut = ", the file looks truncated" if ends else ""
        raise Failure(f"'{path}' is no JSON: {where}{cut}; {remedy}") from error
    except ValueError as error:
        raise Failure(f"'{path}' is no report: {error}") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or abs(value) > LARGEST_NUMBER:
        raise ValueError(f"the number {text[:40]} is out of range")
    return value


def _int(text: str) -> int:
    if len(text) > len(str(LARGEST_NUMBER)):
        raise ValueError(f"the number {text[:40]}… is out of range")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"'{twice[:80]}' stands twice in one object")
    return found


def checked(path: Path, value: Any, model: type[BaseModel], remedy: str) -> Any:
    """The record that plain values stand for, strictly (raises Failure, which names the first mistake)."""
    from pydantic import ValidationError

    try:
        return model.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        if (
            error.errors(include_url=False, include_context=False, include_input=False)[0]["type"]
            == "json_invalid"
        ):
            raise Failure(f"'{path}' is no report: it is nested too deeply") from error
        raise Failure(
            f"'{path}' does not match {value['schema']}: {first_mistake(error)}; {remedy}"
        ) from error
    except RecursionError as error:
        raise Failure(f"'{path}' is no report: it is nested too deeply") from error


def first_mistake(error: ValidationError) -> str:
    """Where the first thing that is wrong stands, and what is wrong with it."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the whole"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where[:200]}: {first['msg'].removeprefix('Value error, ')[:300]}{more}"


def _check_units(path: Path, part: Measured) -> None:
    for name, series in part.metrics.items():
        if series.unit != METRICS[name].unit:
            raise Failure(
                f"'{path}' does not match {SCHEMA}: {name} is in {series.unit!r}, not in {METRICS[name].unit}"
            )
