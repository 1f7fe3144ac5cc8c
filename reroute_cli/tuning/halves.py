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
from reroute_cli.errors import Failure
from reroute_cli.evaluation.score import FEWEST_PICTURES
from reroute_cli.image_names import ImageSource


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
    groups = _connected(items)
    if len(groups) < 2 * FEWEST_PICTURES:
        questions = sum(map(len, groups.values()))
        raise Failure(
            f"there are {_count(questions, 'question')} with a truth about {_count(len(groups), 'picture')}: "
            f"tuning searches one half of the pictures and reports the other, and needs "
            f"{2 * FEWEST_PICTURES} pictures at least"
        )
    names = list(groups)
    Random(seed).shuffle(names)
    searched, reported = names[::2], set(names[1::2])
    kept = tuple(item for name in groups if name in reported for item in groups[name])
    return Halves(
        Half(_in_turns([groups[name] for name in searched]), len(searched)), Half(kept, len(reported))
    )


def _connected(items: Iterable[BatchItem]) -> dict[str, list[BatchItem]]:
    """Items in groups that share no picture, each called after the first picture of its first item."""
    groups: dict[str, list[BatchItem]] = {}
    called: dict[str, str] = {}  # a picture's content -> the group that it is in
    for item in items:
        contents = [_content(item, image) for image in item.images]
        name = next((called[content] for content in contents if content in called), contents[0])
        for other in dict.fromkeys(called.get(content, name) for content in contents):
            if other != name:
                groups[name] += groups.pop(other)
                called |= {content: name for content, group in called.items() if group == other}
        called |= dict.fromkeys(contents, name)
        groups.setdefault(name, []).append(item)
    return groups


def _in_turns(groups: Sequence[Sequence[BatchItem]]) -> tuple[BatchItem, ...]:
    """One question about each picture, then a second one about each that has one, and so on.

    Questions about one picture are not independent: few questions say more when they are about many.
    """
    turns = zip_longest(*groups)
    return tuple(item for turn in turns for item in turn if item is not None)


def _content(item: BatchItem, image: ImageSource) -> str:
    """The digest of a picture's bytes; of what can't be read, its name."""
    if not item.problem:
        try:
            return image.digest()
        except (OSError, Failure):  # said where it is asked
            pass
    return f"name {image.name or item.id}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
