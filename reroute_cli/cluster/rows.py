"""What goes between driver and workers: rows of numbers, text and bytes, nothing that has to be unpickled.

An item leaves the driver as its names; its images' bytes join it on the driver's own machine, so that
workers need no file of them. Names travel as ASCII JSON, which holds even those that are no Unicode. Knows
items and pyarrow's tables; not Ray.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from reroute_cli.batch_inputs import BatchItem
from reroute_cli.chat import Turn
from reroute_cli.console.errors import sentence_of
from reroute_cli.image_names import ImageSource
from reroute_cli.judges import Truth

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Job:
    """One item to be answered. index: its place in the run. digests: of the images that its key is of."""

    index: int
    item: BatchItem
    digests: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What came back of a job: a record as plain JSON values, or the sentence that ends the whole run.

    waited: seconds that the worker's model stood still, counted once a table.
    """

    index: int
    record: dict[str, Any]
    problem: str
    waited: float


def parcels_of(jobs: Sequence[Job], size: int) -> list[dict[str, str]]:
    """Jobs as rows of a source, each for `size` items: what one worker gets at a time."""
    return [{"jobs": _parcel(jobs[start : start + size])} for start in range(0, len(jobs), size)]


def _parcel(jobs: Sequence[Job]) -> str:
    named = [{"index": job.index, "digests": job.digests, "item": _names(job.item)} for job in jobs]
    return json.dumps(named, ensure_ascii=True)


def _names(item: BatchItem) -> dict[str, Any]:
    names: dict[str, Any] = {name: getattr(item, name) for name in ("id", "question", "where")}
    return names | {
        "images": [
            {"name": image.name, "path": image.path, "data": _as_text(image.data)} for image in item.images
        ],
        "turns": [[turn.role, turn.parts] for turn in item.turns],
        "box": item.truth.box if item.truth is not None else None,
    }


def _as_text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode("ascii")


def with_pictures(parcels: pa.Table) -> pa.Table:
    """The items of parcels with their images' bytes, or why there are none; runs where the files are."""
    import pyarrow as pa

    jobs = [job for parcel in parcels["jobs"].to_pylist() for job in json.loads(parcel)]
    read = [_all_bytes(job["item"]["images"], job["digests"]) for job in jobs]
    for job in jobs:
        for image in job["item"]["images"]:
            del image["data"]
    return pa.table(
        {
            "index": pa.array([job["index"] for job in jobs], pa.int64()),
            "item": pa.array([json.dumps(job["item"], ensure_ascii=True) for job in jobs], pa.string()),
            "data": pa.array([data for data, _ in read], pa.list_(pa.large_binary())),
            "problem": pa.array([why for _, why in read], pa.string()),
        }
    )


def _all_bytes(images: Sequence[dict[str, Any]], digests: Sequence[str]) -> tuple[list[bytes], str]:
    """The bytes of each image of an item; or none, and the first sentence that says why."""
    found = []
    for image, digest in zip(images, digests, strict=True):
        if image["data"] is not None:
            found.append(base64.b64decode(image["data"]))
            continue
        data, problem = _bytes(image["path"], digest)
        if problem:
            return [], problem
        found.append(data)
    return found, ""


def _bytes(path: str, digest: str) -> tuple[bytes, str]:
    """The bytes of the image that the item's key is made of; or none, and a sentence."""
    from reroute_cli.images import as_text, read_bytes

    try:
        data = read_bytes(path)
    except Exception as error:  # noqa: BLE001  whatever a file does, it is one item's failure
        return b"", sentence_of(error)
    if hashlib.sha256(data).hexdigest() != digest:
        return b"", f"'{as_text(path)}' changed while it was read: ask again once it stays as it is"
    return data, ""


def items_of(table: pa.Table) -> Iterator[BatchItem]:
    """The items of a table with pictures, as a worker answers them."""
    for names, data, problem in _columns(table, "item", "data", "problem"):
        known = json.loads(names)
        box, named = known.pop("box"), known.pop("images")
        turns = tuple(Turn(role, tuple(parts)) for role, parts in known.pop("turns"))
        pairs = zip_longest(named, data)  # without bytes where there is a problem
        first, *others = (ImageSource(one["name"], one["path"], content) for one, content in pairs)
        yield BatchItem(
            **known,
            image=first.name,
            path=first.path,
            truth=None if box is None else Truth("box", box=tuple(box)),
            problem=problem,
            data=first.data,
            others=tuple(others),
            turns=turns,
        )


def answers_table(indices: Sequence[int], records: Sequence[str], waited: float) -> pa.Table:
    """What a worker sends back. records: one JSON object for each index."""
    return _reply(indices, records, "", waited)


def problem_table(indices: Sequence[int], problem: str) -> pa.Table:
    """What a worker sends back that can't work at all."""
    return _reply(indices, ["{}"] * len(indices), problem, 0.0)


def _reply(indices: Sequence[int], records: Sequence[str], problem: str, waited: float) -> pa.Table:
    import pyarrow as pa

    return pa.table(
        {
            "index": pa.array(indices, pa.int64()),
            "record": pa.array(records, pa.string()),
            "problem": pa.array([problem] * len(indices), pa.string()),
            "waited": pa.array([waited] + [0.0] * (len(indices) - 1), pa.float64()),
        }
    )


def answers_of(table: pa.Table) -> Iterator[Answer]:
    """The answers in a table that came back."""
    for index, record, *rest in _columns(table, "index", "record", "problem", "waited"):
        yield Answer(index, json.loads(record), *rest)


def _columns(table: pa.Table, *names: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(table[name].to_pylist() for name in names), strict=True)
