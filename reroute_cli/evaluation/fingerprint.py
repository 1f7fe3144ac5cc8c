"""One digest over all that a run asks, so that two runs over the same questions know each other.

Knows items and their pictures' bytes; not models or answers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from reroute_cli.batch_inputs import BatchItem
from reroute_cli.images import digest_of


class Fingerprint:
    """SHA-256 over the items that pass through `of`, in their order."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()

    def of(self, items: Iterable[BatchItem]) -> Iterator[BatchItem]:
        """The same items, each counted as it passes."""
        for item in items:
            truth = None if item.truth is None else asdict(item.truth)
            parts = [item.id, _picture(item), item.question, truth, item.group]
            self._sum.update(json.dumps(parts).encode() + b"\n")
            yield item

    def digest(self) -> str:
        """The digest so far, in hex."""
        return self._sum.hexdigest()


def _picture(item: BatchItem) -> str:
    """The digest of a picture's bytes; of one that can't be read, its name."""
    try:
        return digest_of(item.path, item.data)
    except Exception:  # noqa: BLE001  what is wrong with it is said where the item is asked
        return item.image
