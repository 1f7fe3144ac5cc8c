"""What a benchmark is: questions with what is true of each, how they are worded, and its scores.

A wording is part of what is measured: another one gives other scores. How a family is asked for a box is in
its file in routing/families.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reroute_cli.console.errors import UsageError
from reroute_cli.measure.scores import PLAIN, JudgedItem, Score
from routing.families import FAMILIES, family_of
from routing.families.family import Grounding, Missing

if TYPE_CHECKING:
    from reroute_cli.data.items import Item

SHORT = "Answer the question using a single word or phrase."
LETTER = "Answer with the option's letter from the given choices directly."
"""LLaVA-1.5, arxiv.org/abs/2310.03744 §3.3; the same in lmms-eval for POPE, GQA, MME and MMBench."""


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


def check_grounding(family: str) -> None:
    """Raise UsageError where the boxes of a family are not read."""
    if not isinstance(missing := family_of(family).grounding, Missing):
        return
    grounded = [kind for kind, known in FAMILIES.items() if isinstance(known.grounding, Grounding)]
    raise UsageError(
        f"RefCOCO can't be scored, as boxes of {family} models are not read ({missing.because}): "
        f"choose a model of {', '.join(grounded)}"
    )


def where_is(expression: str, family: str) -> str:
    """The question for the box of what an expression describes, in the words of the family."""
    grounding = family_of(family).grounding
    assert isinstance(grounding, Grounding), family
    return grounding.question.replace("{ref}", expression)


def short_answer(question: str, family: str) -> str:
    """A question whose answer is a word or a phrase."""
    task = family_of(family).task
    return f"{question}\n{SHORT}" if task is None else task.replace("{question}", question)


def letter_answer(question: str, options: tuple[tuple[str, str], ...], hint: str | None) -> str:
    """A question with its options, a line each, whose answer is a letter; the hint stands first."""
    lines = [] if hint is None else [hint]
    lines += [question, *(f"{letter}. {text}" for letter, text in options), LETTER]
    return "\n".join(lines)
