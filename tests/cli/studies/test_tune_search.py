"""The search itself, on a made-up model whose best schedule is known by trying everything."""

from collections.abc import Sequence
from functools import cache
from itertools import combinations

import pytest

from reroute_cli.run.schedules import ScheduleChoice
from reroute_cli.studies.tune.moves import DECAYS, defaults
from reroute_cli.studies.tune.plans import Candidate, SchedulePlan, SearchSpace, candidate, least_tokens
from reroute_cli.studies.tune.search import Effort, Entry, Mark, SearchLog, descend, even, search, stays_above
from tests.cli.tuning_world import DEPTH, VISUAL, World, near, space


@cache
def _everything(here: SearchSpace) -> list[Candidate]:
    """Every plan that there is with one keep ratio."""
    cuts = [layers for number in range(1, 6) for layers in combinations(range(DEPTH), number)]
    made = [candidate(SchedulePlan("fastv", "reroute", layers), here, "") for layers in cuts]
    return [one for one in made if one is not None]


def _run(world: World, here: SearchSpace, answers: int, seed: int = 0) -> SearchLog:
    given, _ = defaults(here, even(here))
    return search(here, world, Effort(answers, max(8, answers // 16)), seed, given=given)


def _best(log: SearchLog) -> Entry:
    assert log.best is not None
    return log.best


class Exact(World):
    """A judge that knows the true scores."""

    def _mark(self, one: Candidate, questions: int) -> Mark:
        self.asked |= {(one.identity, question) for question in range(questions)}
        return Mark(self.truth(one))


def test_the_best_of_all_is_found_where_marks_are_exact() -> None:
    """With exact marks the search ends at a schedule as good as the best of all that there are, though it
    has tried fewer than half of them."""
    here = space(24)
    everything = _everything(here)
    for seed in range(5):
        world = Exact(near(2, 4, 7))
        found = _run(world, here, 1500, seed)
        assert world.truth(_best(found).candidate) == max(map(world.truth, everything))
        assert len(found.entries) < len(everything) / 2


def test_the_best_is_found_among_noise() -> None:
    """Where each question is right or wrong by chance, most searches end at the best of all and none is
    worse than the next layer; the best published default is far below."""
    here = space(24)
    truth = near(2, 4, 7)
    best = max(map(truth, _everything(here)))
    ends = [truth(_best(_run(World(truth, seed), here, 1500, seed)).candidate) for seed in range(12)]
    assert sum(end == best for end in ends) >= 7, ends
    assert min(ends) >= best - 0.11, ends
    given, _ = defaults(here, even(here))
    assert max(map(truth, given)) <= best - 0.2


def test_another_best_is_found_just_as_well() -> None:
    """Not the order of trying decides, but the marks: where other layers are best, it ends at those."""
    here = space(24)
    for best in ((0, 3), (1, 5, 6, 7)):
        found = _run(Exact(near(*best)), here, 3000)
        assert tuple(stage.layer for stage in _best(found).candidate.schedule.stages) == best


def test_no_more_answers_than_allowed_and_none_twice() -> None:
    """What the log says it took is what was asked, pair by pair, and no more than was allowed."""
    for answers in (100, 313, 1500, 4000):
        world = World(near(2, 4, 7))
        found = _run(world, space(24), answers)
        assert len(world.asked) == found.answers <= answers
        assert found.answers > answers * 0.7


def test_the_questions_double_and_the_schedules_fall() -> None:
    """Each rung has twice the questions of the one before and fewer schedules; the last has the winner."""
    found = _run(World(near(2, 4, 7)), space(24), 1500)
    questions = [size for size, _ in found.rungs]
    assert questions == [11, 23, 46, 93]
    marked = [number for _, number in found.rungs]
    assert marked == sorted(marked, reverse=True)
    assert marked[-1] >= 2
    assert _best(found).questions == 93
    assert all(entry.mark.value <= _best(found).mark.value for entry in found.at(93))


def test_the_same_seed_takes_the_same_course() -> None:
    """Two searches of one seed ask the same schedules the same questions; another seed asks others."""

    def log(seed: int) -> list[tuple[str, int, float]]:
        found = _run(
            World(near(2, 4, 7)), space(24, ("fastv", "pdrop", "nuwa"), ("prune", "reroute")), 900, seed
        )
        return [(name, entry.questions, entry.mark.value) for name, entry in found.entries.items()]

    assert log(3) == log(3)
    assert log(3) != log(4)


def test_defaults_are_always_asked() -> None:
    """Every published method that can be had is marked, however few answers there are."""
    here = space(24, ("fastv", "pdrop", "nuwa"), ("prune", "reroute"))
    given, _ = defaults(here, even(here))
    found = _run(World(near(2, 4, 7)), here, 100)
    assert len(given) >= 5
    assert {one.identity for one in given} <= set(found.entries)


def test_a_default_that_is_best_wins_as_itself() -> None:
    """Where nothing beats a published method, the search ends at that very schedule."""
    here = space(24, ("fastv",), ("prune", "reroute"))
    given, _ = defaults(here, even(here))
    best = given[1].identity
    found = _run(Exact(lambda one: 0.9 if one.identity == best else 0.2), here, 600)
    assert _best(found).candidate == given[1]


def test_what_the_model_cannot_run_never_wins() -> None:
    """A schedule that is broken is out, however well it stands; where all are, there is no best."""

    class Half(World):
        def judge(self, candidates: Sequence[Candidate], questions: int) -> list[Mark]:
            return [self._judged(one) for one in candidates]

        def _judged(self, one: Candidate) -> Mark:
            return Mark(1.0, broken="no") if len(one.plan.decisions) > 2 else Mark(self.truth(one))

    found = _run(Half(near(2, 4, 7)), space(24), 600)
    assert len(_best(found).candidate.plan.decisions) <= 2

    class Nothing(World):
        def judge(self, candidates: Sequence[Candidate], questions: int) -> list[Mark]:
            return [Mark(0.0, broken="no")] * len(candidates)

    assert _run(Nothing(near(2)), space(24), 300).best is None


def test_what_is_finer_tells_equal_scores_apart() -> None:
    """Of two schedules of the same score the one that is finer is better, and then the one with fewer
    decisions."""
    one, other, third = _everything(space(24))[:3]
    entries = [
        Entry(one, 8, Mark(0.5, 0.2)),
        Entry(other, 8, Mark(0.5, 0.3)),
        Entry(third, 8, Mark(0.4, 0.9)),
    ]
    assert [entry.candidate for entry in sorted(entries, key=lambda entry: entry.rank)] == [other, one, third]


def _by_budget(one: Candidate) -> float:
    """A score that rises with the average tokens, and falls with the distance from layers 2, 4 and 7."""
    average = one.schedule.average_tokens(VISUAL, DEPTH)
    return near(2, 4, 7)(one) * min(1.0, 0.4 + 0.6 * average / 40)


@pytest.mark.parametrize("floor", [0.7, 0.85])
def test_the_cheapest_above_a_floor_is_found(floor: float) -> None:
    """With exact marks, bisection ends at a schedule that is really above the floor, and at a budget a tenth
    smaller there is none above it, by trying every plan."""
    start = SearchSpace(space(24).target, DEPTH * VISUAL, ("fastv",), ("reroute",))
    world = Exact(_by_budget)
    made = descend(start, least_tokens(start.target), world, Effort(6000, 60), 0, floor)
    cheapest = made.cheapest
    assert cheapest is not None
    assert _by_budget(_best(cheapest.log).candidate) >= floor
    smaller = space(0.9 * cheapest.space.average)
    assert not any(_by_budget(one) >= floor for one in _everything(smaller))
    assert made.answers <= 6000
    assert len(made.probes) == 6


def test_a_mark_is_above_a_floor_by_its_standard_error() -> None:
    """0.90 ± 0.03 is above 0.87 and not above 0.88; without an error the value alone counts."""
    one = _everything(space(24))[0]
    assert stays_above(Entry(one, 100, Mark(0.90, error=0.03)), 0.87)
    assert not stays_above(Entry(one, 100, Mark(0.90, error=0.03)), 0.88)
    assert stays_above(Entry(one, 100, Mark(0.90)), 0.90)


def test_plans_are_carried_to_smaller_budgets() -> None:
    """A probe begins with what was best before, its first decision moved up front where it must be."""
    start = SearchSpace(space(24).target, DEPTH * VISUAL, ("fastv",), ("reroute",))
    made = descend(start, least_tokens(start.target), Exact(near(2, 4, 7)), Effort(3000, 40), 0, 0.9)
    warm = [
        {
            entry.candidate.plan.decisions
            for entry in probe.log.entries.values()
            if entry.candidate.origin == "warm"
        }
        for probe in made.probes
    ]
    assert not warm[0]
    assert all(len(cuts) >= 1 for cuts in warm[1:])


def test_decays_rise_under_rerouting_only() -> None:
    """A keep ratio that rises from stage to stage is a plan that reroutes, and none that prunes."""
    here = space(24, ("pdrop",), ("prune", "reroute"))
    rising = max(DECAYS)
    assert rising > 1
    assert candidate(SchedulePlan("pdrop", "prune", (1, 3), rising), here, "") is None
    made = candidate(SchedulePlan("pdrop", "reroute", (1, 3), rising), here, "")
    assert made is not None
    first, second = made.schedule.counts(VISUAL, DEPTH)
    assert second > first
    assert (
        ScheduleChoice("pdrop", "reroute", ratio=0.5, made=made.schedule).build(here.target) == made.schedule
    )
