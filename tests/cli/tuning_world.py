"""A made-up model for searches: every schedule has a true score, and answers that are right by it."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from reroute_cli.studies.tune.plans import Candidate, SearchSpace
from reroute_cli.studies.tune.search import Mark
from routing.solve import Target

DEPTH, VISUAL = 8, 64
TARGET = Target(DEPTH, 0, VISUAL, "clip_vision_model")
Truth = Callable[[Candidate], float]


def space(
    average: float, methods: Sequence[str] = ("fastv",), actions: Sequence[str] = ("reroute",)
) -> SearchSpace:
    """A budget for the made-up model, in tokens per layer."""
    return SearchSpace(TARGET, round(average * DEPTH), tuple(methods), tuple(actions))


def draw(text: str) -> float:
    """A number from 0 to 1 that is the same in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


@dataclass
class World:
    """A judge: a question is right where its difficulty is below the schedule's true score.

    Half of the difficulty belongs to the question and half to the pair, so that comparisons are paired but
    not exact. Everything that was asked is counted, each pair once.
    """

    truth: Truth
    seed: int = 0
    asked: set[tuple[str, int]] = field(default_factory=set)
    sizes: list[tuple[int, int]] = field(default_factory=list)

    def judge(self, candidates: Sequence[Candidate], questions: int) -> list[Mark]:
        """The share of right answers over the first so many questions."""
        self.sizes.append((len(candidates), questions))
        return [self._mark(one, questions) for one in candidates]

    def _mark(self, one: Candidate, questions: int) -> Mark:
        right = sum(self._right(one, question) for question in range(questions))
        share = right / questions
        return Mark(share, error=(share * (1 - share) / questions) ** 0.5)

    def _right(self, one: Candidate, question: int) -> bool:
        self.asked.add((one.identity, question))
        shared, own = draw(f"{self.seed} {question}"), draw(f"{self.seed} {question} {one.identity}")
        return (shared + own) / 2 < self.truth(one)


def near(*best: int) -> Truth:
    """A score that falls with the distance of the decision layers from the best ones, 0.95 at best."""

    def truth(one: Candidate) -> float:
        cuts = [stage.layer for stage in one.schedule.stages]
        far = sum(min(abs(want - cut) for cut in cuts) for want in best)
        return max(0.05, 0.95 - 0.1 * far - 0.1 * abs(len(cuts) - len(best)))

    return truth
