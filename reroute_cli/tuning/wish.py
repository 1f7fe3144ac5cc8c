"""What a search is asked for, checked as far as it can be before a model is loaded.

Knows what can be typed; not models, schedules or answers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reroute_cli.batch_inputs import BatchItem
from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.evaluation.score import Score, share_of
from reroute_cli.evaluation.trial import Row

METHODS = ("fastv", "pdrop", "nuwa")
ACTIONS = ("prune", "reroute")
ANSWERS, ANSWERS_FLOOR = 1500, 6000  # by default; a floor is several searches
FEWEST_ANSWERS = 100
RIGHT = share_of("right", "all right", lambda _row: True)


@dataclass(frozen=True)
class Floor:
    """A score to stay above: itself, or as a share of the dense model's."""

    amount: float
    of_dense: bool

    def value(self, dense: float) -> float:
        """The floor beside a dense model of this score."""
        return self.amount * dense if self.of_dense else self.amount

    def __str__(self) -> str:
        return f"{self.amount:.4g}" if not self.of_dense else f"{100 * self.amount:.4g}% of dense"


@dataclass(frozen=True)
class Wish:
    """One search. budget (visual tokens per decoder layer), ratio, floor: exactly one of them."""

    budget: float | None
    ratio: float | None
    floor: Floor | None
    methods: tuple[str, ...] = METHODS
    actions: tuple[str, ...] = ACTIONS
    answers: int = ANSWERS
    seed: int = 0

    def __str__(self) -> str:
        if self.floor is not None:
            return f"the cheapest with a score of {self.floor}"
        return f"ratio {self.ratio:g}" if self.budget is None else f"{self.budget:g} tokens per layer"


def wish_of(
    budget: float | None,
    ratio: float | None,
    floor: str | None,
    methods: str,
    actions: str,
    answers: int | None,
    seed: int,
) -> Wish:
    """The options as one wish; raises UsageError."""
    given = {"--budget": budget, "--ratio": ratio, "--floor": floor}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        more = "drop all but one of them" if named else "add --ratio 0.889, --budget TOKENS or --floor SCORE"
        said = " and ".join(named) if named else "neither an amount nor a floor"
        raise UsageError(f"tune got {said}, and needs exactly one: {more}")
    if ratio is not None and not 0 < ratio < 1:
        raise UsageError(f"--ratio {ratio:g} is out of range: give more than 0 (dense) and less than 1")
    if budget is not None and not 0 < budget < math.inf:
        raise UsageError(f"--budget {budget:g} is no number of tokens: give more than 0 per layer")
    return Wish(
        budget=budget,
        ratio=ratio,
        floor=None if floor is None else _floor(floor),
        methods=_some("--methods", methods, METHODS),
        actions=_some("--actions", actions, ACTIONS),
        answers=answers or (ANSWERS if floor is None else ANSWERS_FLOOR),
        seed=seed,
    )


def _floor(text: str) -> Floor:
    """'0.9', or '95%' of the dense model's score."""
    of_dense = text.strip().endswith("%")
    try:
        amount = float(text.strip().removesuffix("%")) / (100 if of_dense else 1)
    except ValueError:
        amount = math.nan
    if not 0 < amount < math.inf or (of_dense and amount > 1):
        raise UsageError(
            f"--floor '{text}' is no floor: give a score above 0, like 0.9, or a share of the dense model's, "
            "like 95%"
        )
    return Floor(amount, of_dense)


def _some(option: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    """'nuwa,fastv' -> those that are known, in the order of `known`."""
    words = {word.strip() for word in text.split(",")}
    if wrong := sorted(words - set(known)):
        raise UsageError(f"{option} has '{wrong[0]}' in it: give some of {', '.join(known)}")
    return tuple(name for name in known if name in words)


def chosen_score(name: str | None, scores: Iterable[Score], items: Sequence[BatchItem]) -> Score:
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


def asks_for(score: Score, items: Iterable[BatchItem]) -> list[BatchItem]:
    """The questions that a score is of."""
    return [item for item in items if not item.problem and score.of(_unasked(item))]


def _unasked(item: BatchItem) -> Row:
    return Row(item.id, item.image, item.question, item.group, item.truth, (), ())
