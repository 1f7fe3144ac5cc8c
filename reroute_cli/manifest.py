"""Manifests: files of items, as JSON lines or as one JSON array; how one is read, and what is wrong with it.

Lines are read as a stream, however long the file; an array, as LLaVA's data is one, is read at once. Knows
lines and their keys; not which items a run takes, nor what is in an image.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.output import shortened
from reroute_cli.conversations import Asked, asked_in, images_in, is_unicode
from reroute_cli.image_names import MAX_DATA_URI, ImageSource, source_of
from reroute_cli.images import as_text

LONGEST_LINE = 1 << 20  # bytes; of a line that holds images as data, LONGEST_DATA_LINE
LONGEST_DATA_LINE = MAX_DATA_URI + LONGEST_LINE
LARGEST_ARRAY = 1 << 30  # bytes
LONGEST_ID = 256  # characters
EXAMPLE = '{"image": "desk.png", "question": "where is the cup?"}'


@dataclass(frozen=True)
class Line:
    """An item of a manifest: a line that is not blank, or an element of an array.

    raw: the line's bytes, or as many as show that it is too long. value: the element, where it is one.
    """

    manifest: Path
    number: int
    raw: bytes = b""
    value: Any = None
    kind: str = "line"

    @property
    def name(self) -> str:
        """What the item is called where it has no id: 'line 3'."""
        return f"{self.kind} {self.number}"

    @property
    def where(self) -> str:
        """The line, as sentences name it."""
        return f"{self.name} of '{as_text(str(self.manifest))}'"

    def entry(self) -> dict[str, Any]:
        """The object in the line; raises Failure that names the line."""
        value = self.value if self.kind == "item" else self._parsed()
        if not isinstance(value, dict):
            raise Failure(f"{self.where} is no JSON object: a line looks like {EXAMPLE}")
        return value

    def _parsed(self) -> Any:
        where = self.where
        if len(self.raw) > _longest(self.raw):
            raise Failure(
                f"{where} is longer than {_longest(self.raw)} bytes: write one item, such as {EXAMPLE}"
            )
        try:
            return json.loads(self.raw.rstrip().decode("utf-8-sig"))
        except json.JSONDecodeError as error:
            wrong = f"{error.msg}, at column {error.colno}"
            raise Failure(f"{where} is no JSON ({wrong}): a line looks like {EXAMPLE}") from error
        except (ValueError, RecursionError) as error:
            raise Failure(f"{where} is no JSON ({shortened(error)}): a line looks like {EXAMPLE}") from error


def read_lines(path: Path) -> Iterable[Line]:
    """The items of a manifest, to be gone over as often as one likes: an array is read now, lines each time.

    Raises Failure where there is none to read, for lines once they are gone over.
    """
    return _elements(path) if _is_array(path) else _Lines(path)


@dataclass(frozen=True)
class _Lines:
    path: Path

    def __iter__(self) -> Iterator[Line]:
        line, path = None, self.path
        try:
            _check_file(path)
            with path.open("rb") as file:
                for number, raw in enumerate(_whole_lines(file), 1):
                    if raw.strip():
                        yield (line := Line(path, number, raw))
        except OSError as error:
            raise _unreadable(path, error) from error
        if line is None:
            raise Failure(f"the manifest '{path}' has no line in it: write lines such as {EXAMPLE}")


def _whole_lines(file: Any) -> Iterator[bytes]:
    """Lines as bytes; of a long one only the beginning, and the rest of it is passed over."""
    while raw := file.readline(LONGEST_LINE + 1):
        if len(raw) > LONGEST_LINE and not raw.endswith(b"\n"):
            raw += file.readline(_longest(raw) + 1 - len(raw))
        yield raw
        while len(raw) > LONGEST_LINE and not raw.endswith(b"\n"):
            raw = file.readline(LONGEST_LINE + 1)


def _longest(raw: bytes) -> int:
    """Bytes that a line with this beginning may have."""
    return LONGEST_DATA_LINE if b'"data:' in raw[:LONGEST_LINE] else LONGEST_LINE


def _is_array(path: Path) -> bool:
    """Whether a file is called .json and begins as an array does; what can't be read is told elsewhere."""
    try:
        if path.suffix.lower() != ".json" or not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    except OSError:
        return False


def _elements(path: Path) -> list[Line]:
    """The elements of an array; raises Failure."""
    try:
        _check_file(path)
        if (size := path.stat().st_size) > LARGEST_ARRAY:
            raise Failure(
                f"the manifest '{path}' has {size} bytes, more than the {LARGEST_ARRAY} of an array that are "
                "read: write its items as JSON lines, which are read one by one"
            )
        found = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise _unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise Failure(f"the manifest '{path}' is no JSON ({shortened(error)}): write it anew") from error
    if not found:
        raise Failure(f"the manifest '{path}' has no item in it: write items such as {EXAMPLE}")
    return [Line(path, number, value=value, kind="item") for number, value in enumerate(found, 1)]


def _check_file(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise Failure(f"the manifest '{path}' is not an ordinary file: save it to one first")


def _unreadable(path: Path, error: OSError) -> Failure:
    reason = error.strerror or type(error).__name__
    return Failure(f"the manifest '{path}' can't be read ({reason}): check the path")


def identity(entry: Mapping[str, Any], line: Line) -> str:
    """The item's own id (text or a whole number), or its line's number; raises Failure."""
    given = entry.get("id", line.name)
    known = isinstance(given, str | int) and not isinstance(given, bool)
    if not known or not str(given).strip() or not is_unicode(str(given)):
        raise Failure(f"{line.where} has an id that is neither text nor a whole number: mend or drop it")
    if len(str(given)) > LONGEST_ID:
        raise Failure(
            f"{line.where} has an id of {len(str(given))} characters ('{shortened(given, 40)}'): "
            f"at most {LONGEST_ID} are taken"
        )
    return str(given)


def same_id(line: Line, known: str, before: int) -> str:
    """The sentence for an id that the line, or element, `before` has already."""
    return f"{line.where} has the id '{known}' of {line.kind} {before}: ids must differ"


def images_of(entry: Mapping[str, Any], line: Line) -> tuple[ImageSource, ...]:
    """The images of an item, in order, none of them opened; raises Failure."""
    with _nothing_typed():
        names = images_in(entry, line.where)
        return tuple(source_of(name, line.manifest.parent, line.where) for name in names)


def asked_of(entry: Mapping[str, Any], line: Line) -> Asked:
    """What an item asks; raises Failure where it can't be asked."""
    with _nothing_typed():
        return asked_in(entry, line.where)


def text(entry: Mapping[str, Any], key: str, line: Line) -> str:
    """What is written under a key; raises Failure where that is no text."""
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip() or not is_unicode(value):
        raise Failure(f"{line.where} has no text under '{key}': a line looks like {EXAMPLE}")
    return value


@contextmanager
def _nothing_typed() -> Iterator[None]:
    """What is wrong with a file's content is a Failure, not a wrong use of the command."""
    try:
        yield
    except UsageError as error:
        raise Failure(str(error)) from error
