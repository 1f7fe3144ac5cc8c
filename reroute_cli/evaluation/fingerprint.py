"""One digest over all that a run asks, so that two runs over the same questions know each other.

Knows items and their pictures' bytes; not models or answers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from reroute_cli.batch_inputs import BatchItem
from reroute_cli.image_names import ImageSource


class Fingerprint:
    """SHA-256 over the items that pass through `of`, in their order."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()

    def of(self, items: Iterable[BatchItem]) -> Iterator[BatchItem]:
        """The same items, each counted as it passes."""
        for item in items:
            truth = None if item.truth is None else asdict(item.truth)
            first, *others = map(_content, item.images)
            parts: list[Any] = [item.id, first, item.question, truth, item.group]
            if others or item.turns:
                parts += [others, [turn.message() for turn in item.turns]]
            self._sum.update(json.dumps(parts).encode() + b"\n")
            yield item

    def digest(self) -> str:
        """The digest so far, in hex."""
        return self._sum.hexdigest()


def _content(image: ImageSource) -> str:
    """The digest of an image's bytes; of one that can't be read, its name."""
    try:
        return image.digest()
    except Exception:  # noqa: BLE001  what is wrong with it is said where the item is asked
        return image.name
