"""What a search is asked for, checked before a model is loaded: budget or floor, score, questions.

Questions are in two halves: one is searched, the other is reported. No image is in both. Images are known by
their content, so that one under two names stays in one half; so do all questions that images of several
connect. Knows what can be typed and items; not models, schedules or answers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from random import Random
from typing import TYPE_CHECKING, Self, TypeVar

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.options import ACTIONS, ActionName
from reroute_cli.console.typed import settings_in
from reroute_cli.data.items import Item, spread
from reroute_cli.measure.scores import FEWEST_PICTURES, JudgedItem, Score, connected, share_of
from reroute_cli.studies.tune.search import FEWEST, PROBES
from routing.methods import METHODS, SEARCHED_FIRST

if TYPE_CHECKING:
    from reroute_cli.console.study_options import SearchOptions

ANSWERS, ANSWERS_FLOOR = 1500, 6000  # by default; a floor is several searches
RIGHT = share_of("right", "all right", lambda _row: True)
Word = TypeVar("Word", bound=str)


@dataclass(frozen=True)
class Floor:
    """A score to stay above: itself, or as a share of the dense model's."""

    amount: float
    of_dense: bool

    @classmethod
    def read(cls, text: str) -> Self:
        """'0.9', or '95%' of the dense model's score; raises UsageError."""
        of_dense = text.strip().endswith("%")
        try:
            amount = float(text.strip().removesuffix("%")) / (100 if of_dense else 1)
        except ValueError:
            amount = math.nan
        if not 0 < amount < math.inf or (of_dense and amount > 1):
            raise UsageError(
                f"--floor '{text}' is no floor: give a score above 0, like 0.9, or a share of the dense "
                "model's, like 95%"
            )
        return cls(amount, of_dense)

    def value(self, dense: float) -> float:
        """The floor beside a dense model of this score."""
        return self.amount * dense if self.of_dense else self.amount

    def __str__(self) -> str:
        return f"{self.amount:.4g}" if not self.of_dense else f"{100 * self.amount:.4g}% of dense"


@dataclass(frozen=True)
class TuneRequest:
    """What a search is asked for.

    budget (visual tokens per decoder layer), ratio (reduction ratio), floor: exactly one of them.
    methods, actions: what may be searched. settings: of methods, NAME=VALUE by name. resizing: methods that
    make images smaller, which are asked as they are. answers: that the search may take, without the report.
    seed: decides the halves and what is tried.
    """

    budget: float | None
    ratio: float | None
    floor: Floor | None
    methods: tuple[str, ...] = SEARCHED_FIRST
    actions: tuple[ActionName, ...] = ACTIONS
    settings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    resizing: tuple[str, ...] = ()
    answers: int = ANSWERS
    seed: int = 0

    @property
    def typed(self) -> list[str]:
        """The methods with their settings: 'sparsevlm:version=2'."""
        return [":".join((name, *self.settings.get(name, ()))) for name in (*self.methods, *self.resizing)]

    @property
    def published(self) -> int:
        """How many published schedules are asked beside those that are searched."""
        return len(self.methods) * len(self.actions) + len(self.resizing)

    def __str__(self) -> str:
        if self.floor is not None:
            return f"the cheapest with a score of {self.floor}"
        return f"ratio {self.ratio:g}" if self.budget is None else f"{self.budget:g} tokens per layer"


def tune_request(options: SearchOptions) -> TuneRequest:
    """What the options of a search ask for; raises UsageError."""
    named = options.given("budget", "ratio", "floor")
    if len(named) != 1:
        more = "drop all but one of them" if named else "add --ratio 0.889, --budget TOKENS or --floor SCORE"
        said = " and ".join(named) if named else "neither an amount nor a floor"
        raise UsageError(f"tune got {said}, and needs exactly one: {more}")
    if options.ratio is not None and not 0 < options.ratio < 1:
        raise UsageError(
            f"--ratio {options.ratio:g} is out of range: give more than 0 (dense) and less than 1"
        )
    if options.budget is not None and not options.budget > 0:
        raise UsageError(f"--budget {options.budget:g} is no number of tokens: give more than 0 per layer")
    methods, settings = _methods(options.methods)
    request = TuneRequest(
        budget=options.budget,
        ratio=options.ratio,
        floor=None if options.floor is None else Floor.read(options.floor),
        methods=tuple(name for name in methods if METHODS[name].shape is not None),
        actions=_some("--actions", options.actions, ACTIONS),
        settings=settings,
        resizing=tuple(name for name in methods if METHODS[name].resizes),
        answers=options.answers or (ANSWERS if options.floor is None else ANSWERS_FLOOR),
        seed=options.seed,
    )
    if not request.methods:
        raise UsageError(f"{methods[0]} has no schedule to search: name --methods that have one, too")
    least = request.published * FEWEST * (1 if request.floor is None else PROBES)
    if least > request.answers:
        raise UsageError(
            f"--answers {request.answers} is too few for {request.published} published schedules alone: "
            f"give at least {least}, or fewer --methods"
        )
    return request


def _methods(text: str) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """'fastv,sparsevlm:version=2' -> both names in their order, and the settings by name; 'all' is all."""
    known = [name for name, one in METHODS.items() if one.shape is not None or one.resizes]
    if text.strip() == "all":
        return tuple(known), {}
    typed = [[part.strip() for part in word.split(":")] for word in text.split(",")]
    names = [name for name, *_ in typed]
    methods = _some("--methods", ",".join(names), known)
    settings = {name: tuple(given) for name, *given in typed if given}
    for name, given in settings.items():
        settings_in(given, name)
        if names.count(name) > 1:
            raise UsageError(f"--methods has {name} twice: a search has it under one setting")
    return methods, settings


def _some(option: str, text: str, known: Sequence[Word]) -> tuple[Word, ...]:
    """'nuwa,fastv' -> those that are known, in the order of `known`."""
    words = {word.strip() for word in text.split(",")}
    if wrong := sorted(words - set(known)):
        raise UsageError(f"{option} has '{wrong[0]}' in it: give some of {', '.join(known)}")
    return tuple(name for name in known if name in words)


def chosen_score(name: str | None, scores: Iterable[Score], items: Sequence[Item]) -> Score:
    """The score by name, or the first one that is of any question here; raises UsageError or Failure."""
    offered = {score.name: score for score in (*scores, RIGHT) if not score.neutral}
    if name is not None and name not in offered:
        raise UsageError(f"there is no score '{name}' here: choose one of {', '.join(offered)}")
    wanted = [offered[name]] if name is not None else list(offered.values())
    for score in wanted:
        if asks_for(score, items):
            return score
    raise Failure(
        f"none of the {len(items)} questions has a {wanted[0].title}: name another --score or manifest"
    )


def asks_for(score: Score, items: Iterable[Item]) -> list[Item]:
    """The questions that a score is of."""
    rows = (
        (item, JudgedItem(item.id, item.image, item.question, item.group, item.label, (), ()))
        for item in items
    )
    return [item for item, row in rows if not item.problem and score.of(row)]


@dataclass(frozen=True)
class Half:
    """Questions about some of the images. images: how many there are."""

    items: tuple[Item, ...]
    images: int


@dataclass(frozen=True)
class Halves:
    """searched: in the order in which they are asked. reported: in the order of the source."""

    searched: Half
    reported: Half


@dataclass(frozen=True)
class SplitQuestions:
    """What is asked. score: what the search is for. other: how many questions it is not of."""

    halves: Halves
    score: Score
    other: int


def choose_questions(
    items: Sequence[Item], scores: Iterable[Score], name: str | None, limit: int | None, seed: int
) -> SplitQuestions:
    """The questions that the score is of, or `limit` of them, spread evenly, in two halves."""
    score = chosen_score(name, scores, items)
    asked = asks_for(score, items)
    chosen = [asked[index] for index in spread(len(asked), limit or len(asked))]
    return SplitQuestions(split(chosen, seed), score, len(items) - len(asked))


def split(items: Iterable[Item], seed: int) -> Halves:
    """Every other image of a shuffled list in either half; raises Failure where there are too few."""
    # images are known by what is in them, and those of an item that can't be asked by their names
    groups = connected(
        items,
        lambda item: (
            [f"name {one.name or item.id}" for one in item.images] if item.problem else [*item.contents()]
        ),
    )
    if len(groups) < 2 * FEWEST_PICTURES:
        questions = sum(map(len, groups))
        raise Failure(
            f"there are {_count(questions, 'question')} with ground truth about "
            f"{_count(len(groups), 'image')}: tuning searches one half of the images and reports the other, "
            f"and needs {2 * FEWEST_PICTURES} images at least"
        )
    places = list(range(len(groups)))
    Random(seed).shuffle(places)
    searched, reported = places[::2], sorted(places[1::2])
    # One question about each image, then a second one about each that has one, and so on: questions about one
    # image are not independent, so few questions say more when they are about many.
    turns = zip_longest(*(groups[place] for place in searched))
    first = tuple(item for turn in turns for item in turn if item is not None)
    kept = tuple(item for place in reported for item in groups[place])
    return Halves(Half(first, len(searched)), Half(kept, len(reported)))


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
