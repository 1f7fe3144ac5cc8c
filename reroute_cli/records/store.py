"""A file of JSON lines that loses nothing and holds nothing twice, whatever kills its writer.

One writer at a time; every record is on the disk before the next one is made; a torn last line is dropped
when the file is opened again. Where a key has several records, the last good one counts. Knows keys and
lines, not what a record means; older records are given as this release would have written them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from reroute_cli.console.errors import Failure
from reroute_cli.console.output import to_line
from reroute_cli.records.migrate import upgraded

_OPENING = b'{"schema": "reroute.'  # how every record begins


@dataclass(frozen=True)
class _Place:
    """Where a record stands in the file, in bytes, and whether it says that something failed."""

    start: int
    end: int
    failed: bool


class RecordFile:
    """The records of one run: `with RecordFile(path) as file`, then `append`, after asking `is_done`.

    A record is a JSON object with a string `key`; `error`, where it is not null, means that the item failed
    and is worth another try. Opening raises Failure when another process writes the file, when it is no file
    of records, or when it is damaged before its last line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        real = Path(os.path.realpath(path))  # a link and its target are one file, with one lock
        self._lock = FileLock(real.with_name(f".{real.name}.lock"), timeout=0)
        self._places: dict[str, _Place] = {}
        self._instead: dict[str, str] = {}
        self._size = 0
        self._stream: int | None = None

    def __enter__(self) -> RecordFile:
        try:
            self._lock.acquire()
        except Timeout as error:
            raise Failure(
                f"another process is writing '{self.path}': wait for it, or name another output file"
            ) from error
        except OSError as error:
            raise Failure(f"'{self.path}' can't be written to: {error.strerror}") from error
        try:
            self._recover()
            self._compact()
            self._stream = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            _sync_folder(self.path.parent)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._stream is not None:
                os.close(self._stream)
                self._stream = None
            self._compact()
        finally:
            self._lock.release()

    def __len__(self) -> int:
        """How many keys there are records of."""
        self._settle()
        return len(self._places)

    def is_done(self, key: str) -> bool:
        """Whether there is a record of this key that is no error."""
        return key in self._places and not self._places[key].failed

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record and wait until the disk has it; a full disk leaves the file as it was."""
        assert self._stream is not None
        left = line = (to_line(record) + "\n").encode()
        try:
            while left:
                left = left[os.write(self._stream, left) :]
            os.fsync(self._stream)
        except OSError as error:
            os.ftruncate(self._stream, self._size)
            raise Failure(
                f"'{self.path}' can't be written ({error.strerror}); its records so far are safe"
            ) from error
        self._note(record, self._size, self._size + len(line))
        self._size += len(line)

    def supersede(self, failure: str, key: str) -> None:
        """The record of `key` takes the place of the one of `failure`, where that is there and is an error.

        For items whose error has a key of its own. What a killed process did not get to is done by asking
        again.
        """
        place = self._places.get(failure)
        if failure != key and key in self._places and place is not None and place.failed:
            self._instead[failure] = key

    def records(self) -> Iterator[dict[str, Any]]:
        """Every key's record, in the order in which the keys first came."""
        self._settle()
        with self.path.open("rb") as stream:
            for place in self._places.values():
                stream.seek(place.start)
                yield upgraded(json.loads(stream.read(place.end - place.start)))

    def get(self, key: str) -> dict[str, Any]:
        """The record that counts for this key; raises KeyError where there is none."""
        place = self._places[key]
        with self.path.open("rb") as stream:
            stream.seek(place.start)
            found: dict[str, Any] = upgraded(json.loads(stream.read(place.end - place.start)))
            return found

    def _recover(self) -> None:
        """Find every record; cut off a last line that is not whole."""
        self._places, self._instead, self._size = {}, {}, 0
        if not self.path.exists():
            return
        if not self.path.is_file():
            raise Failure(f"'{self.path}' is no file: name a file to write records to")
        with self.path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                start = line[: len(_OPENING)]
                if not line.endswith(b"\n") and (_OPENING.startswith(start) or not line.strip(b"\0")):
                    break  # the beginning of a record whose writer was killed, and not somebody else's text
                record = _record(line)
                if record is None:
                    raise Failure(
                        f"line {number} of '{self.path}' is no record: move the file away or name another"
                    )
                self._note(record, self._size, self._size + len(line))
                self._size += len(line)
        if self._size < self.path.stat().st_size:
            os.truncate(self.path, self._size)

    def _note(self, record: Mapping[str, Any], start: int, end: int) -> None:
        """A key keeps its place; its later record counts, unless that failed and the earlier did not."""
        key, failed = record["key"], record.get("error") is not None
        if not (failed and self.is_done(key)):
            self._places[key] = _Place(start, end, failed)

    def _settle(self) -> None:
        """Put the records that supersede others where those stood."""
        if not self._instead:
            return
        moved = set(self._instead.values())
        order = [self._instead.get(key, key) for key in self._places if key not in moved]
        self._places, self._instead = {key: self._places[key] for key in order}, {}

    def _compact(self) -> None:
        """Rewrite the file, whole or not at all, when it holds records that others replaced.

        A link stays and its target is rewritten.
        """
        self._settle()
        if sum(place.end - place.start for place in self._places.values()) == self._size:
            return
        target = Path(os.path.realpath(self.path))
        draft = target.with_name(f".{target.name}.tmp")
        moved: dict[str, _Place] = {}
        size = 0
        try:
            with draft.open("wb") as out, self.path.open("rb") as old:
                for key, place in self._places.items():
                    old.seek(place.start)
                    length = out.write(old.read(place.end - place.start))
                    moved[key] = _Place(size, size + length, place.failed)
                    size += length
                out.flush()
                os.fsync(out.fileno())
            draft.replace(target)
            self._places, self._size = moved, size
            _sync_folder(target.parent)
        finally:
            draft.unlink(missing_ok=True)


def _record(line: bytes) -> dict[str, Any] | None:
    """The record in a line; None when it holds none."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("key"), str) else None


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the system has a way to."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def records_at(path: Path | None) -> Iterator[RecordFile]:
    """The file that keeps the answers; without a path, one that is gone at the end."""
    if path is not None:
        with RecordFile(path) as file:
            yield file
        return
    with TemporaryDirectory(prefix="reroute-") as folder, RecordFile(Path(folder) / "answers.jsonl") as file:
        yield file
