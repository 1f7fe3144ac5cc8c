"""Successive halving with local search, at one budget or down to the cheapest one above a score.

Many schedules are asked few questions, the best of them more.

Each rung has about twice the questions of the one before and an equal share of the answers. What survived
is asked the new questions; what is left of the share goes to neighbours of the best. All schedules of a rung
are marked on the very same questions. Knows plans and marks; not models, and not which questions they are.
The same marks lead to the same search, whatever was asked before.

Under a floor the budget is found by bisection, each probe a search of its own: cost and score fall together,
so each probe halves the range of budgets that is left (on a logarithmic scale). What was best at the last
probes is where the next one begins.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from random import Random
from typing import TYPE_CHECKING, Protocol

from reroute_cli.run.schedules import ScheduleChoice
from reroute_cli.studies.tune.moves import defaults, neighbours, starters
from reroute_cli.studies.tune.plans import Candidate, SchedulePlan, SearchSpace, candidate
from routing.methods import DENSE

if TYPE_CHECKING:
    from routing.solve import Target

PROBES = 6  # searches under a floor, at most
FINEST = 48  # answers under a floor for each question of a probe's last rung

FEWEST = 8  # questions of a rung: on fewer, one schedule can hardly be told from another
_LEADERS = 2  # schedules whose neighbours are looked at
_LIFTING = 0.5  # of a rung's share, for what survived the one before
_FIRST_PROBE = 0.3  # of all answers, for the first probe: it has nothing to begin with
_CARRIED = 4  # schedules that the next probe begins with
_FIELD = 0.4  # of the first rung's share, for schedules that are no neighbours


@dataclass(frozen=True)
class Mark:
    """How good a schedule is on so many questions. error: its standard error, None where there is none.

    fine: what tells schedules of the same value apart. broken: the model can't run it, or not at the budget.
    average: visual tokens per layer of the answers, where images were made smaller: no schedule says it.
    """

    value: float
    fine: float = 0.0
    error: float | None = None
    broken: str | None = None
    average: float | None = None


class Judge(Protocol):
    """Whoever asks schedules. The first `questions` questions are always the same ones."""

    def judge(self, candidates: Sequence[Candidate], questions: int) -> list[Mark]:
        """The marks of these schedules over the first so many questions."""
        ...


@dataclass(frozen=True)
class Effort:
    """What a search may take. answers: of all schedules together. most: questions of the last rung."""

    answers: int
    most: int

    @property
    def rungs(self) -> tuple[int, ...]:
        """Questions of each rung, doubling; the last one has `most`."""
        sizes = [self.most]
        while sizes[0] // 2 >= FEWEST:
            sizes.insert(0, sizes[0] // 2)
        return tuple(sizes)


@dataclass
class Entry:
    """A schedule in the race: its mark over the most questions that it was asked."""

    candidate: Candidate
    questions: int
    mark: Mark

    @property
    def method(self) -> str:
        """What it is a schedule of, by name."""
        return self.candidate.choice.method or DENSE

    @property
    def action(self) -> str:
        """prune, reroute, or resize."""
        return self.candidate.choice.action or "resize"

    def average(self, target: Target) -> float:
        """Visual tokens per layer: by the schedule, or of the answers where images were made smaller."""
        if self.mark.average is not None:
            return self.mark.average
        return self.candidate.schedule.average_tokens(target.visual, target.layers)

    @property
    def rank(self) -> tuple[float, float, int, str]:
        """The best first: value, then what is finer, then the fewest decisions; the rest is arbitrary."""
        stages = len(self.candidate.schedule.entries)
        return -self.mark.value, -self.mark.fine, stages, self.candidate.identity


@dataclass
class SearchLog:
    """Everything that a search has asked. answers: how many it took, or would have taken from scratch."""

    entries: dict[str, Entry] = field(default_factory=dict)
    answers: int = 0
    rungs: list[tuple[int, int]] = field(default_factory=list)  # questions, schedules marked on them

    def at(self, questions: int) -> list[Entry]:
        """The schedules that were asked so many questions and can be run, best first."""
        found = [one for one in self.entries.values() if one.questions == questions and not one.mark.broken]
        return sorted(found, key=lambda entry: entry.rank)

    @property
    def best(self) -> Entry | None:
        """The best of the last rung that anything ran on."""
        for questions, _ in reversed(self.rungs):
            if found := self.at(questions):
                return found[0]
        return None


def search(
    space: SearchSpace, judge: Judge, effort: Effort, seed: int, *, given: Sequence[Candidate]
) -> SearchLog:
    """A search at one budget: everything that it asked. given: schedules that are asked in any case."""
    return _Search(space, judge, effort, Random(seed)).run(given)


class _Search:
    """One search while it runs."""

    def __init__(self, space: SearchSpace, judge: Judge, effort: Effort, random: Random) -> None:
        self._space, self._judge, self._effort, self._random = space, judge, effort, random
        self._log = SearchLog()
        self._taken: set[str] = set()
        self._steps: dict[str, Iterator[Candidate]] = {}

    def run(self, given: Sequence[Candidate]) -> SearchLog:
        rungs, log = self._effort.rungs, self._log
        for number, questions in enumerate(rungs):
            goal = self._effort.answers * (number + 1) // len(rungs)  # what a rung leaves goes to the next
            share = goal - log.answers
            if number == 0:
                first = dict(reversed({one.identity: one for one in reversed(given)}.items()))
                for one in starters(self._space, self._random):
                    if (len(first) + 1) * questions > int(share * _FIELD):
                        break
                    first.setdefault(one.identity, one)
                self._ask(list(first.values()), questions)
            else:  # the best of the rung before: two of them in any case
                before = rungs[number - 1]
                lifted = max(2, int(share * _LIFTING) // (questions - before))
                self._ask([entry.candidate for entry in log.at(before)[:lifted]], questions)
            self._refine(questions, goal)
            log.rungs.append((questions, len(log.at(questions))))
        return log

    def _refine(self, questions: int, goal: int) -> None:
        """Neighbours of the best, a few at a time, so that what they find counts for the next few."""
        while (left := (goal - self._log.answers) // questions) > 0:
            fresh: list[Candidate] = []
            for leader in self._log.at(questions)[:_LEADERS]:
                one = leader.candidate
                steps = self._steps.setdefault(one.identity, self._neighbours(one))
                if len(fresh) < left and (step := next(steps, None)) is not None:
                    fresh.append(step)
            if not fresh:
                return
            self._ask(fresh, questions)

    def _neighbours(self, one: Candidate) -> Iterator[Candidate]:
        """Those that were not taken up yet, one by one."""
        if one.plan is None:
            return
        for plan in neighbours(one.plan, self._space, self._random):
            made = candidate(plan, self._space, "neighbour")
            if made is not None and made.identity not in self._taken:
                self._taken.add(made.identity)
                yield made

    def _ask(self, candidates: Sequence[Candidate], questions: int) -> None:
        """Have them marked on this rung's questions, and note what that takes."""
        self._taken.update(one.identity for one in candidates)
        marks = self._judge.judge(candidates, questions)
        for one, mark in zip(candidates, marks, strict=True):
            known = self._log.entries.get(one.identity)
            self._log.answers += questions - (known.questions if known else 0)
            self._log.entries[one.identity] = Entry(one, questions, mark)


@dataclass(frozen=True)
class Probe:
    """A search at one budget, and whether its best schedule stays above the floor."""

    space: SearchSpace
    log: SearchLog
    passed: bool


@dataclass
class Descent:
    """All probes in their order; `cheapest` is the best of the cheapest one that passed."""

    probes: list[Probe] = field(default_factory=list)

    @property
    def cheapest(self) -> Probe | None:
        """The passing probe with the smallest budget."""
        passed = [probe for probe in self.probes if probe.passed]
        return min(passed, key=lambda probe: probe.space.tokens, default=None)

    @property
    def answers(self) -> int:
        """Answers of all probes."""
        return sum(probe.log.answers for probe in self.probes)


def descend(space: SearchSpace, least: int, judge: Judge, effort: Effort, seed: int, floor: float) -> Descent:
    """Bisection between the dense model, which is above the floor, and `least` layer-tokens."""
    low, high = least, space.target.layers * space.target.visual
    made, carried = Descent(), list[SchedulePlan]()
    for number in range(PROBES):
        tokens = round(math.sqrt(low * high))
        if not low < tokens < high:
            break
        here = replace(space, tokens=tokens)
        warm: list[Candidate] = []
        for plan in carried:  # with its first decision as late as this budget allows
            first, *rest = plan.decisions
            earlier = (replace(plan, decisions=(layer, *rest)) for layer in range(first, -1, -1))
            tried = (candidate(one, here, "warm") for one in earlier)
            warm += islice((one for one in tried if one is not None), 1)
        part = _FIRST_PROBE if number == 0 else (1 - _FIRST_PROBE) / (PROBES - 1)
        share = replace(effort, answers=int(effort.answers * part))
        log = search(here, judge, share, seed + number, given=[*defaults(here, even(here))[0], *warm])
        passed = log.best is not None and stays_above(log.best, floor)
        made.probes.append(Probe(here, log, passed))
        # what is best leads, over the rungs from the last to the first
        entries = chain.from_iterable(log.at(questions) for questions, _ in reversed(log.rungs))
        plans = (entry.candidate.plan for entry in entries if entry.candidate.plan is not None)
        carried = list(dict.fromkeys(plans))[:_CARRIED] or carried
        low, high = (low, tokens) if passed else (tokens, high)
    return made


def stays_above(entry: Entry, floor: float) -> bool:
    """Whether a mark less one standard error reaches the floor: the best of many looks better than it is."""
    return entry.mark.value - (entry.mark.error or 0.0) >= floor


def even(space: SearchSpace) -> ScheduleChoice:
    """The budget as an amount for published methods."""
    return ScheduleChoice(space.methods[0], space.actions[0], ratio=round(space.ratio, 9), seed=space.seed)
