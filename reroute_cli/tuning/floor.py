"""The cheapest budget at which a schedule stays above a score: bisection, each probe a search of its own.

Cost and score fall together, so each probe halves the range of budgets that is left (on a logarithmic
scale). What was best at the last probes is where the next one begins. Knows searches; not models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from reroute_cli.schedules import ScheduleChoice
from reroute_cli.studies.tune.moves import defaults
from reroute_cli.studies.tune.plans import Candidate, Plan, Room, candidate
from reroute_cli.studies.tune.search import Course, Effort, Entry, Jury, search

PROBES = 6
FINEST = 48  # answers of the whole search for each question of a probe's last rung
_FIRST = 0.3  # of all answers, for the first probe: it has nothing to begin with
_CARRIED = 4  # schedules that the next probe begins with


@dataclass(frozen=True)
class Probe:
    """A search at one budget, and whether its best schedule stays above the floor."""

    room: Room
    course: Course
    passed: bool


@dataclass
class Descent:
    """All probes in their order; `cheapest` is the best of the cheapest one that passed."""

    probes: list[Probe] = field(default_factory=list)

    @property
    def cheapest(self) -> Probe | None:
        """The passing probe with the smallest budget."""
        passed = [probe for probe in self.probes if probe.passed]
        return min(passed, key=lambda probe: probe.room.tokens, default=None)

    @property
    def answers(self) -> int:
        """Answers of all probes."""
        return sum(probe.course.answers for probe in self.probes)


def descend(room: Room, least: int, jury: Jury, effort: Effort, seed: int, floor: float) -> Descent:
    """Bisection between the dense model, which is above the floor, and `least` layer-tokens."""
    low, high = least, room.target.layers * room.target.visual
    made, carried = Descent(), list[Plan]()
    for number in range(PROBES):
        tokens = round(math.sqrt(low * high))
        if not low < tokens < high:
            break
        here = replace(room, tokens=tokens)
        given = [*defaults(here, even(here))[0], *_carried(here, carried)]
        course = search(here, jury, _share(effort, number), seed + number, given=given)
        passed = course.best is not None and stays_above(course.best, floor)
        made.probes.append(Probe(here, course, passed))
        carried = _leading(course) or carried
        low, high = (low, tokens) if passed else (tokens, high)
    return made


def stays_above(entry: Entry, floor: float) -> bool:
    """Whether a mark less one standard error reaches the floor: the best of many looks better than it is."""
    return entry.mark.value - (entry.mark.error or 0.0) >= floor


def _share(effort: Effort, number: int) -> Effort:
    part = _FIRST if number == 0 else (1 - _FIRST) / (PROBES - 1)
    return replace(effort, answers=int(effort.answers * part))


def even(room: Room) -> ScheduleChoice:
    """The room's budget as an amount for published methods."""
    return ScheduleChoice(room.methods[0], room.actions[0], ratio=round(room.ratio, 9), seed=room.seed)


def _leading(course: Course) -> list[Plan]:
    """The plans of the best, over the rungs from the last to the first."""
    entries = chain.from_iterable(course.at(questions) for questions, _ in reversed(course.rungs))
    return list(dict.fromkeys(entry.candidate.plan for entry in entries))[:_CARRIED]


def _carried(room: Room, plans: Sequence[Plan]) -> list[Candidate]:
    """The plans at this budget; where their first decision is too late for it, earlier."""
    return [made for plan in plans if (made := _earlier(plan, room)) is not None]


def _earlier(plan: Plan, room: Room) -> Candidate | None:
    first, rest = plan.cuts[0], plan.cuts[1:]
    for cut in range(first, -1, -1):
        made = candidate(replace(plan, cuts=(cut, *rest)), room, "warm")
        if made is not None:
            return made
    return None
