"""What goes between driver and workers: rows of numbers, text and bytes, nothing that has to be unpickled.

An item leaves the driver as its names; its picture's bytes join it on the driver's own machine, so that
workers need no file of it. Text that may hold anything travels as ASCII JSON, file names as the bytes that
they are. Knows items and pyarrow's tables; not Ray.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reroute_cli.batch_inputs import BatchItem
from reroute_cli.errors import sentence_of
from reroute_cli.judges import Truth

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Job:
    """One item to be answered. index: its place in the run. digest: of the picture that its key is of."""

    index: int
    item: BatchItem
    digest: str


@dataclass(frozen=True)
class Answer:
    """What came back of a job: a record as plain JSON values, or the sentence that ends the whole run.

    process: which worker process it was. waited: seconds that its model stood still, counted once a call.
    """

    index: int
    record: dict[str, Any]
    problem: str
    process: str
    waited: float


def tables_of(jobs: Sequence[Job], size: int) -> list[pa.Table]:
    """Jobs as tables of `size` rows: what one worker gets at a time."""
    return [_table(jobs[start : start + size]) for start in range(0, len(jobs), size)]


def _table(jobs: Sequence[Job]) -> pa.Table:
    import pyarrow as pa

    return pa.table(
        {
            "index": pa.array([job.index for job in jobs], pa.int64()),
            "item": pa.array([_names(job.item) for job in jobs], pa.string()),
            "path": pa.array([os.fsencode(job.item.path) for job in jobs], pa.binary()),
            "digest": pa.array([job.digest for job in jobs], pa.string()),
        }
    )


def _names(item: BatchItem) -> str:
    box = item.truth.box if item.truth is not None else None
    names = {"id": item.id, "image": item.image, "question": item.question, "where": item.where}
    return json.dumps(names | {"box": box}, ensure_ascii=True)


def with_pictures(table: pa.Table) -> pa.Table:
    """The table with the bytes of its pictures, or why there are none; runs where the files are."""
    import pyarrow as pa

    read = [_bytes(path, digest) for path, digest in _columns(table, "path", "digest")]
    data = pa.array([data for data, _ in read], pa.large_binary())
    return table.append_column("data", data).append_column("problem", pa.array([why for _, why in read]))


def _bytes(path: bytes, digest: str) -> tuple[bytes, str]:
    """The bytes that the item's key is made of; or none, and a sentence."""
    from reroute_cli.images import as_text, read_bytes

    name = os.fsdecode(path)
    try:
        data = read_bytes(name)
    except Exception as error:  # noqa: BLE001  whatever a file does, it is one item's failure
        return b"", sentence_of(error)
    if hashlib.sha256(data).hexdigest() != digest:
        return b"", f"'{as_text(name)}' changed while it was read: ask again once it stays as it is"
    return data, ""


def items_of(table: pa.Table) -> Iterator[BatchItem]:
    """The items of a table with pictures, as a worker answers them."""
    for names, path, data, problem in _columns(table, "item", "path", "data", "problem"):
        known = json.loads(names)
        box = known.pop("box")
        truth = None if box is None else Truth("box", box=tuple(box))
        yield BatchItem(**known, path=os.fsdecode(path), truth=truth, problem=problem, data=data)


def answers_table(indices: Sequence[int], records: Sequence[str], process: str, waited: float) -> pa.Table:
    """What a worker sends back. records: one JSON object for each index."""
    return _reply(indices, records, [""] * len(indices), process, waited)


def problem_table(indices: Sequence[int], problem: str, process: str) -> pa.Table:
    """What a worker sends back that can't work at all."""
    return _reply(indices, ["{}"] * len(indices), [problem] * len(indices), process, 0.0)


def _reply(
    indices: Sequence[int], records: Sequence[str], problems: Sequence[str], process: str, waited: float
) -> pa.Table:
    import pyarrow as pa

    return pa.table(
        {
            "index": pa.array(indices, pa.int64()),
            "record": pa.array(records, pa.string()),
            "problem": pa.array(problems, pa.string()),
            "process": pa.array([process] * len(indices), pa.string()),
            "waited": pa.array([waited] + [0.0] * (len(indices) - 1), pa.float64()),
        }
    )


def answers_of(table: pa.Table) -> Iterator[Answer]:
    """The answers in a table that came back."""
    for index, record, *rest in _columns(table, "index", "record", "problem", "process", "waited"):
        yield Answer(index, json.loads(record), *rest)


def _columns(table: pa.Table, *names: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(table[name].to_pylist() for name in names), strict=True)
