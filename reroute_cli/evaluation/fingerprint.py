"""One digest over all that a run asks, so that two runs over the same questions know each other.

Knows items and the digests of their images; opens no file, and knows no models or answers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from reroute_cli.data.items import Item


class Fingerprint:
    """SHA-256 over the items that are added, in their order."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()

    def add(self, item: Item, contents: Sequence[str]) -> None:
        """Count one item. contents: by what its images are known, see `Item.contents`."""
        truth = None if item.label is None else asdict(item.label)
        first, *others = contents
        parts: list[Any] = [item.id, first, item.question, truth, item.group]
        if others or item.turns:
            parts += [others, [turn.message() for turn in item.turns]]
        self._sum.update(json.dumps(parts).encode() + b"\n")

    def digest(self) -> str:
        """The digest so far, in hex."""
        return self._sum.hexdigest()
