"""Manifests: files of JSON lines that name pictures and questions; how a line is read, what is wrong with it.

Read as a stream, however long. Knows lines and their keys; not which items a run takes, nor any picture.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reroute_cli.errors import Failure, UsageError
from reroute_cli.images import as_text
from reroute_cli.prompts import check_question

LONGEST_LINE = 1 << 20  # bytes
EXAMPLE = '{"image": "desk.png", "question": "where is the cup?"}'


@dataclass(frozen=True)
class Line:
    """A line that is not blank. raw: its bytes, or as many as show that it is too long."""

    manifest: Path
    number: int
    raw: bytes

    @property
    def where(self) -> str:
        """The line, as sentences name it."""
        return f"line {self.number} of '{as_text(str(self.manifest))}'"

    def entry(self) -> dict[str, Any]:
        """The object in the line; raises Failure that names the line."""
        where = self.where
        if len(self.raw) > LONGEST_LINE:
            raise Failure(f"{where} is longer than {LONGEST_LINE} bytes: write one item, such as {EXAMPLE}")
        try:
            entry = json.loads(self.raw.rstrip().decode("utf-8-sig"))
        except json.JSONDecodeError as error:
            wrong = f"{error.msg}, at column {error.colno}"
            raise Failure(f"{where} is no JSON ({wrong}): a line looks like {EXAMPLE}") from error
        except (ValueError, RecursionError) as error:
            raise Failure(f"{where} is no JSON ({error}): a line looks like {EXAMPLE}") from error
        if not isinstance(entry, dict):
            raise Failure(f"{where} is no JSON object: a line looks like {EXAMPLE}")
        return entry


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a manifest that are not blank; raises Failure where there is none to read."""
    line = None
    try:
        if path.exists() and not path.is_file():
            raise Failure(f"the manifest '{path}' is not an ordinary file: save it to one first")
        with path.open("rb") as file:
            for number, raw in enumerate(_whole_lines(file), 1):
                if raw.strip():
                    yield (line := Line(path, number, raw))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Failure(f"the manifest '{path}' can't be read ({reason}): check the path") from error
    if line is None:
        raise Failure(f"the manifest '{path}' has no line in it: write lines such as {EXAMPLE}")


def _whole_lines(file: Any) -> Iterator[bytes]:
    """Lines as bytes; of a long one only the beginning, and the rest of it is passed over."""
    while raw := file.readline(LONGEST_LINE + 1):
        yield raw
        while len(raw) > LONGEST_LINE and not raw.endswith(b"\n"):
            raw = file.readline(LONGEST_LINE + 1)


def identity(entry: dict[str, Any], line: Line) -> str:
    """The item's own id (text or a whole number), or its line's number; raises Failure."""
    given = entry.get("id", f"line {line.number}")
    known = isinstance(given, str | int) and not isinstance(given, bool)
    if not known or not str(given).strip() or not is_unicode(str(given)):
        raise Failure(f"{line.where} has an id that is neither text nor a whole number: mend or drop it")
    return str(given)


def same_id(line: Line, known: str, before: int) -> str:
    """The sentence for an id that line `before` has already."""
    return f"{line.where} has the id '{known}' of line {before}: ids must differ"


def image_name(entry: dict[str, Any], line: Line) -> str:
    """The one picture of an item, as written; raises Failure."""
    if isinstance(entry.get("image"), list):
        raise Failure(f"{line.where} has a list under 'image': an item has one picture, as in {EXAMPLE}")
    image = text(entry, "image", line)
    if "://" in image:
        raise Failure(
            f"{line.where} names the address '{image}': pictures are read from files, so download it"
        )
    return image


def question_of(entry: dict[str, Any], line: Line) -> str:
    """The question of an item; raises Failure where it can't be asked."""
    question = text(entry, "question", line)
    try:
        check_question(question)
    except UsageError as error:
        raise Failure(f"{line.where}: {error}") from error
    return question


def text(entry: dict[str, Any], key: str, line: Line) -> str:
    """What is written under a key; raises Failure where that is no text."""
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip() or not is_unicode(value):
        raise Failure(f"{line.where} has no text under '{key}': a line looks like {EXAMPLE}")
    return value


def is_unicode(value: str) -> bool:
    """Whether text has a UTF-8 form; half of a surrogate pair, which JSON can write, has none."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
