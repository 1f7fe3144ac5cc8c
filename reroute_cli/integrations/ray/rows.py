"""What goes between driver and workers: rows of numbers, text and bytes, nothing that has to be unpickled.

An item leaves the driver as its names, with its images' bytes as far as the driver holds them; the others
join it on the driver's own machine, so that workers need no file of them. Names travel as ASCII JSON, which
holds even those that are no Unicode. Knows items and pyarrow's tables; not Ray.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from reroute_cli.console.errors import sentence_of
from reroute_cli.data.images import ImageSource
from reroute_cli.data.items import Item, Truth
from reroute_cli.data.prompts import Turn

if TYPE_CHECKING:
    import pyarrow as pa

    from reroute_cli.run.prepare import KeyedItem


@dataclass(frozen=True)
class WorkerAnswer:
    """What came back of an item: a record as plain JSON values, or the sentence that ends the whole run.

    waited: seconds that the worker's model stood still, counted once a table.
    """

    index: int
    record: dict[str, Any]
    problem: str
    waited: float


def parcels_of(jobs: Sequence[tuple[int, KeyedItem]], size: int) -> list[dict[str, str]]:
    """Items, by their places in the run, as rows of a source, each for `size` items: a worker's at a time.

    Bytes of images that the driver has already go along; the others are read when their turn comes.
    """
    named = []
    for index, keyed in jobs:
        item, box = keyed.item, None if keyed.item.label is None else keyed.item.label.box
        names: dict[str, Any] = {name: getattr(item, name) for name in ("id", "question", "where")}
        names["images"] = [
            {
                "name": image.name,
                "path": image.path,
                "data": None if image.data is None else base64.b64encode(image.data).decode("ascii"),
            }
            for image in item.images
        ]
        names |= {"turns": [[turn.role, turn.parts] for turn in item.turns], "box": box}
        named.append({"index": index, "digests": keyed.digests, "item": names})
    starts = range(0, len(named), size)
    return [{"jobs": json.dumps(named[start : start + size], ensure_ascii=True)} for start in starts]


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
    """The bytes of an item's images, of which its key is made; or none, and the sentence that says why."""
    from reroute_cli.data.images import as_text, read_bytes

    found = []
    for image, digest in zip(images, digests, strict=True):
        if image["data"] is not None:
            found.append(base64.b64decode(image["data"]))
            continue
        try:
            data = read_bytes(image["path"])
        except Exception as error:  # noqa: BLE001  whatever a file does, it is one item's failure
            return [], sentence_of(error)
        if hashlib.sha256(data).hexdigest() != digest:
            name = as_text(image["path"])
            return [], f"'{name}' changed while it was read: ask again once it stays as it is"
        found.append(data)
    return found, ""


def items_of(table: pa.Table) -> Iterator[Item]:
    """The items of a table with images, as a worker answers them."""
    for names, data, problem in _columns(table, "item", "data", "problem"):
        known = json.loads(names)
        box, named = known.pop("box"), known.pop("images")
        turns = tuple(Turn(role, tuple(parts)) for role, parts in known.pop("turns"))
        pairs = zip_longest(named, data)  # without bytes where there is a problem
        yield Item(
            **known,
            images=tuple(ImageSource(one["name"], one["path"], content) for one, content in pairs),
            label=None if box is None else Truth("box", box=tuple(box)),
            problem=problem,
            turns=turns,
        )


def answers_table(
    indices: Sequence[int], records: Sequence[str] | None, *, problem: str = "", waited: float = 0.0
) -> pa.Table:
    """What a worker sends back. records: a JSON object for each index; None where a problem ends the run."""
    import pyarrow as pa

    return pa.table(
        {
            "index": pa.array(indices, pa.int64()),
            "record": pa.array(["{}"] * len(indices) if records is None else records, pa.string()),
            "problem": pa.array([problem] * len(indices), pa.string()),
            "waited": pa.array([waited] + [0.0] * (len(indices) - 1), pa.float64()),
        }
    )


def answers_of(table: pa.Table) -> Iterator[WorkerAnswer]:
    """The answers in a table that came back."""
    for index, record, *rest in _columns(table, "index", "record", "problem", "waited"):
        yield WorkerAnswer(index, json.loads(record), *rest)


def _columns(table: pa.Table, *names: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(table[name].to_pylist() for name in names), strict=True)
