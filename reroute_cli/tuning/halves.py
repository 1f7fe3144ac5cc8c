"""The two halves of the questions: one is searched, the other is reported. No picture is in both.

Pictures are known by their content, so that one under two names stays in one half; so do all questions that
pictures of several connect. Knows items; not models, schedules or scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from random import Random

from reroute_cli.batch_inputs import BatchItem
from reroute_cli.console.errors import Failure
from reroute_cli.evaluation.score import FEWEST_PICTURES, connected
from reroute_cli.image_names import contents_of


@dataclass(frozen=True)
class Half:
    """Questions about some of the pictures. pictures: how many there are."""

    items: tuple[BatchItem, ...]
    pictures: int


@dataclass(frozen=True)
class Halves:
    """searched: in the order in which they are asked. reported: in the order of the source."""

    searched: Half
    reported: Half


def split(items: Iterable[BatchItem], seed: int) -> Halves:
    """Every other picture of a shuffled list; raises Failure where a half is too small for an interval."""
    groups = connected(items, _contents)
    if len(groups) < 2 * FEWEST_PICTURES:
        questions = sum(map(len, groups))
        raise Failure(
            f"there are {_count(questions, 'question')} with a truth about {_count(len(groups), 'picture')}: "
            f"tuning searches one half of the pictures and reports the other, and needs "
            f"{2 * FEWEST_PICTURES} pictures at least"
        )
    places = list(range(len(groups)))
    Random(seed).shuffle(places)
    searched, reported = places[::2], sorted(places[1::2])
    kept = tuple(item for place in reported for item in groups[place])
    return Halves(
        Half(_in_turns([groups[place] for place in searched]), len(searched)), Half(kept, len(reported))
    )


def _in_turns(groups: Sequence[Sequence[BatchItem]]) -> tuple[BatchItem, ...]:
    """One question about each picture, then a second one about each that has one, and so on.

    Questions about one picture are not independent: few questions say more when they are about many.
    """
    turns = zip_longest(*groups)
    return tuple(item for turn in turns for item in turn if item is not None)


def _contents(item: BatchItem) -> list[str]:
    """What the images of an item that can be asked are known by; those of one that can't, by their names."""
    if item.problem:
        return [f"name {image.name or item.id}" for image in item.images]
    return list(contents_of(item.images))


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
