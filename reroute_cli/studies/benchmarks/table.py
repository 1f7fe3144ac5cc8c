"""One split of a dataset as a stream of rows: from the hub, or from a folder that holds a copy of it.

Rows are read through `datasets` (the extra `eval`) and never downloaded as a whole. Images are handed on
as the bytes that the dataset holds: what they contain is for others to find out. A row's path to an image
is never opened: it could name any file. Knows `datasets` and its errors; not what any benchmark's columns
mean.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.data.images import as_text

Plain = dict[str, Any]  # one row by column; images as {"bytes": ..., "path": ...}

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_REVISION = re.compile(r"@([0-9a-f]{40})(?:/|$)")
_OURS = (Failure, UsageError, MemoryError)
_TALKATIVE = ("datasets", "huggingface_hub", "fsspec", "httpx")


@dataclass(frozen=True)
class DatasetSplit:
    """One split, opened: its dataset and columns are known, its rows are not read yet.

    place: hub id or folder. config: the dataset's configuration, None for its only one. revision: the hub's
    commit, to which all later reading is held; None of a folder. images: columns that hold images.
    """

    place: str
    config: str | None
    split: str
    revision: str | None
    images: tuple[str, ...]

    @property
    def source(self) -> dict[str, str]:
        """Where the rows come from, for reports."""
        where = "folder" if is_folder(self.place) else "dataset"
        known = {"config": self.config, "split": self.split, "revision": self.revision}
        return {where: as_text(self.place)} | {key: value for key, value in known.items() if value}

    def rows(self, columns: Sequence[str]) -> Iterator[Plain]:
        """Every row with these of its columns, in the dataset's order; raises Failure where reading ends."""
        from datasets import Image

        number = 0
        try:
            builder = _builder(self.place, self.config, self.revision, columns)
            stream = builder.as_streaming_dataset(split=self.split).select_columns(list(columns))
            for column in set(columns) & set(self.images):
                stream = stream.cast_column(column, Image(decode=False))
            for row in stream:
                yield row
                number += 1
        except _OURS:
            raise
        except Exception as error:
            what = f"reading '{as_text(self.place)}' ended after {number} rows"
            raise Failure(_sentence(self.place, what, error)) from error


def open_table(place: str, config: str | None, split: str, needed: Sequence[str]) -> DatasetSplit:
    """A split with these columns; raises UsageError for what can't be a dataset, Failure for what is none."""
    if not is_folder(place) and not _HUB_ID.fullmatch(place):
        raise UsageError(
            f"there is no folder '{as_text(place)}', and a dataset of the hub is OWNER/NAME: check --data"
        )
    if find_spec("datasets") is None:
        raise Failure("datasets of the hub are read by the library `datasets`: pip install 'reroute[eval]'")
    shown = as_text(place)
    try:
        builder = _builder(place, config, None, None)
        splits = [str(name) for name in builder.config.data_files or ()]
        features = (builder.as_streaming_dataset(split=split).features if split in splits else None) or {}
    except Exception as error:
        # Files, the hub, the network, Arrow: each has errors of its own
        raise Failure(_sentence(place, f"'{shown}' can't be read", error)) from error
    if split not in splits:
        raise Failure(
            f"'{shown}' has no split '{split}', but {', '.join(splits) or 'none at all'}: check --data"
        )
    if missing := [name for name in needed if name not in features]:
        raise Failure(
            f"'{shown}' has no column '{missing[0]}' in split '{split}', but "
            f"{', '.join(features)}: give --data a copy of the benchmark's own dataset"
        )
    images = tuple(name for name in needed if type(features[name]).__name__ == "Image")
    found = _REVISION.search(str(builder.base_path))
    return DatasetSplit(place, config, split, found.group(1) if found else None, images)


def is_folder(place: str) -> bool:
    """Whether a place is a folder of this machine, rather than a hub id."""
    try:
        return bool(place) and Path(place).is_dir()
    except (OSError, ValueError):  # a name that no folder can have
        return False


def _builder(place: str, config: str | None, revision: str | None, columns: Sequence[str] | None) -> Any:
    """What `datasets` knows of a dataset before any row is read; of Parquet, only `columns` will be read."""
    from datasets import disable_progress_bars, load_dataset_builder

    disable_progress_bars()
    for name in _TALKATIVE:  # what matters of it is raised
        logging.getLogger(name).setLevel(logging.CRITICAL)
    path = str(Path(place).resolve()) if is_folder(place) else place
    builder = load_dataset_builder(path, config, revision=revision)
    if columns is None or builder.name != "parquet":
        return builder
    return load_dataset_builder(path, config, revision=revision, columns=list(columns))


def _sentence(place: str, what: str, error: Exception) -> str:
    """What could not be done, why, and what helps."""
    text = " ".join(str(error).split())[:300] or type(error).__name__
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "gated" in text.lower():
        remedy = f"accept its terms at huggingface.co/datasets/{place}, then `hf auth login`"
    elif "OfflineModeIsEnabled" in text or "OfflineModeIsEnabled" in kinds:
        remedy = "unset HF_HUB_OFFLINE, or give --data a folder that holds a copy"
    elif kinds & {"ConnectionError", "TimeoutError", "TransportError", "HfHubHTTPError"}:
        remedy = "check the network and try again, or give --data a folder that holds a copy"
    elif is_folder(place):
        remedy = (
            "give --data a copy of the benchmark's dataset, with its README.md, as `hf download` makes it"
        )
    else:
        remedy = "check --data, or fetch it with `hf download --repo-type dataset` and give that folder"
    return f"{what} ({text}): {remedy}"
