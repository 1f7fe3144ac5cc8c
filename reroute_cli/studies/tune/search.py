"""Successive halving with local search: many schedules on few questions, the best of them on more.

Each rung has about twice the questions of the one before and an equal share of the answers. What survived
is asked the new questions; what is left of the share goes to neighbours of the best. All schedules of a rung
are marked on the very same questions. Knows plans and marks; not models, and not which questions they are.
The same marks lead to the same course, whatever was asked before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from reroute_cli.studies.tune.moves import neighbours, starters
from reroute_cli.studies.tune.plans import Candidate, Plan, Room, candidate

FEWEST = 8  # questions of a rung: on fewer, one schedule can hardly be told from another
_LEADERS = 2  # schedules whose neighbours are looked at
_LIFTING = 0.5  # of a rung's share, for what survived the one before
_FIELD = 0.4  # of the first rung's share, for schedules that are no neighbours


@dataclass(frozen=True)
class Mark:
    """How good a schedule is on so many questions. error: its standard error, None where there is none.

    fine: what tells schedules of the same value apart. broken: the model can't run it.
    """

    value: float
    fine: float = 0.0
    error: float | None = None
    broken: str | None = None


class Jury(Protocol):
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
    def rank(self) -> tuple[float, float, int, str]:
        """The best first: value, then what is finer, then the fewest decisions; the rest is arbitrary."""
        stages = len(self.candidate.schedule.entries)
        return -self.mark.value, -self.mark.fine, stages, self.candidate.identity


@dataclass
class Course:
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
    room: Room, jury: Jury, effort: Effort, seed: int, *, given: Sequence[Candidate], wide: bool = True
) -> Course:
    """The course of a search at one budget. given: schedules that are asked in any case.

    wide: whether plans at random are asked beside them and their neighbours.
    """
    return _Search(room, jury, effort, Random(seed)).run(given, wide=wide)


class _Search:
    """One search while it runs."""

    def __init__(self, room: Room, jury: Jury, effort: Effort, random: Random) -> None:
        self._room, self._jury, self._effort, self._random = room, jury, effort, random
        self._course = Course()
        self._taken: set[str] = set()
        self._steps: dict[str, Iterator[Candidate]] = {}

    def run(self, given: Sequence[Candidate], *, wide: bool) -> Course:
        rungs = self._effort.rungs
        for number, questions in enumerate(rungs):
            goal = self._effort.answers * (number + 1) // len(rungs)  # what a rung leaves goes to the next
            share = goal - self._course.answers
            if number == 0:
                self._open(given, questions, int(share * _FIELD) if wide else 0)
            else:
                self._lift(rungs[number - 1], questions, int(share * _LIFTING))
            self._refine(questions, goal)
            self._course.rungs.append((questions, len(self._course.at(questions))))
        return self._course

    def _open(self, given: Sequence[Candidate], questions: int, share: int) -> None:
        """The first rung: what is given, then plans at random up to the share."""
        first = {one.identity: one for one in reversed(given)}
        first = dict(reversed(first.items()))
        for one in starters(self._room, self._random):
            if (len(first) + 1) * questions > share:
                break
            first.setdefault(one.identity, one)
        self._ask(list(first.values()), questions)

    def _lift(self, before: int, questions: int, share: int) -> None:
        """The best of the rung before, asked up to this rung's questions: two of them in any case."""
        number = max(2, share // (questions - before))
        self._ask([entry.candidate for entry in self._course.at(before)[:number]], questions)

    def _refine(self, questions: int, goal: int) -> None:
        """Neighbours of the best, a few at a time, so that what they find counts for the next few."""
        while (room := (goal - self._course.answers) // questions) > 0:
            leaders = self._course.at(questions)[:_LEADERS]
            fresh: list[Candidate] = []
            for entry in leaders:
                if len(fresh) < room and (one := self._next(entry.candidate)) is not None:
                    fresh.append(one)
            if not fresh:
                return
            self._ask(fresh, questions)

    def _next(self, one: Candidate) -> Candidate | None:
        """The next neighbour that was not taken up yet."""
        if one.identity not in self._steps:
            self._steps[one.identity] = self._unasked(neighbours(one.plan, self._room, self._random))
        return next(self._steps[one.identity], None)

    def _unasked(self, ways: Sequence[Plan]) -> Iterator[Candidate]:
        for plan in ways:
            made = candidate(plan, self._room, "neighbour")
            if made is not None and made.identity not in self._taken:
                self._taken.add(made.identity)
                yield made

    def _ask(self, candidates: Sequence[Candidate], questions: int) -> None:
        """Have them marked on this rung's questions, and note what that takes."""
        self._taken.update(one.identity for one in candidates)
        marks = self._jury.judge(candidates, questions)
        for one, mark in zip(candidates, marks, strict=True):
            known = self._course.entries.get(one.identity)
            self._course.answers += questions - (known.questions if known else 0)
            self._course.entries[one.identity] = Entry(one, questions, mark)
