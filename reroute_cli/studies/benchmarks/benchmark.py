"""What a benchmark is: questions with what is true of each, and the scores that it is known for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reroute_cli.measure.scores import PLAIN, JudgedItem, Score

if TYPE_CHECKING:
    from reroute_cli.data.items import Item


@dataclass(frozen=True)
class Wanted:
    """Which questions are asked for. limit: at most so many, spread evenly where their number is known.

    family: the model's, whose prompts and box conventions differ. data: a hub id or a local folder in place
    of the benchmark's own.
    """

    split: str
    family: str
    limit: int | None = None
    data: str | None = None


@dataclass(frozen=True)
class Questions:
    """The questions of one run. count: how many there will be, where that is known beforehand.

    available: of how many they are, where that is known.
    source: where they come from, in a few words for reports: a hub id with its revision and split, a file.
    """

    items: Iterable[Item]
    count: int | None
    source: dict[str, str]
    available: int | None = None


@dataclass(frozen=True)
class Benchmark:
    """Questions about images, and how answers to them are scored.

    source: the hub id, or "" for what comes with the package. splits: the first is the default.
    max_new_tokens: the longest answer that makes sense. scores: the headline first.
    """

    name: str
    title: str
    source: str
    splits: tuple[str, ...]
    max_new_tokens: int
    load: Callable[[Wanted], Questions]
    scores: tuple[Score, ...] = PLAIN
    notes: str = field(default="")


def judged_as(kind: str) -> Callable[[JudgedItem], bool]:
    """What a score is of: the questions whose truth is of this kind, a key of JUDGES."""
    return lambda row: row.label is not None and row.label.kind == kind
