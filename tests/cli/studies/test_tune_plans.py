"""What the search varies: plans, the schedules they become, published defaults and neighbours."""

from itertools import islice
from random import Random

import pytest

from reroute_cli.run.schedules import ScheduleChoice
from reroute_cli.studies.tune.moves import defaults, neighbours, starters
from reroute_cli.studies.tune.plans import SchedulePlan, SearchSpace, candidate, identity, least_tokens
from routing import Action, Schedule, Stage, solve
from routing.solve import Target

POCKET = Target(12, 0, 256, "clip_vision_model")
ALL = (("fastv", "pdrop", "nuwa"), ("prune", "reroute"))


def _space(ratio: float, target: Target = POCKET) -> SearchSpace:
    return SearchSpace(target, round((1 - ratio) * target.visual * target.layers), *ALL)


@pytest.mark.parametrize("target", [POCKET, Target(32, 0, 576, "clip_vision_model"), Target(36, 3, 1024, "")])
@pytest.mark.parametrize("ratio", [0.5, 0.667, 0.889])
def test_every_candidate_spends_the_same(target: Target, ratio: float) -> None:
    """Plans at random and their neighbours never spend more than the budget, and miss it by less than one
    token in one stage's layers; layer by layer, as the engine counts."""
    space, random = _space(ratio, target), Random(7)
    tried = list(islice(starters(space, random), 60))
    tried += [
        made
        for one in tried[:12]
        for plan in neighbours(one.plan, space, random)
        if (made := candidate(plan, space, ""))
    ]
    assert len(tried) > 100
    for one in tried:
        spent = sum(one.schedule.tokens_per_layer(target.visual, target.layers))
        longest = max(
            later - earlier
            for (earlier, _), (later, _) in zip(
                one.schedule.entries, [*one.schedule.entries[1:], (target.layers, 0)], strict=True
            )
        )
        assert space.tokens - longest < spent <= space.tokens, one.identity


def test_the_kinds_of_plan_are_all_tried_first() -> None:
    """The plans that a search begins with take every method, both actions and one to five layers in turn."""
    first = list(islice(starters(_space(0.667), Random(0)), 60))
    assert {one.plan.method for one in first} == {"fastv", "pdrop", "nuwa"}
    assert {one.plan.action for one in first} == {"prune", "reroute"}
    assert {len(one.plan.decisions) for one in first} == {1, 2, 3, 4, 5}
    assert len({one.identity for one in first}) == len(first)


def test_equal_counts_are_one_candidate() -> None:
    """Keep ratios that come to the same counts are one identity; so are a single decision under both
    actions, and pruning that prunes nothing; another ranking or another layer is not."""
    made = [
        Schedule((Stage(3, 28 / 256),)),
        Schedule((Stage(3, 28.9 / 256),)),
        Schedule((Stage(3, 28 / 256),), action=Action.REROUTE),
        Schedule((Stage(3, 28.9 / 256), Stage(7, 28 / 256))),
    ]
    assert len({identity(schedule, POCKET) for schedule in made}) == 1
    others = [
        Schedule((Stage(3, 28 / 256),), scorer="last_queries_max"),
        Schedule((Stage(3, 28 / 256, 2),)),
        Schedule((Stage(4, 28 / 256),)),
        Schedule((Stage(3, 28 / 256), Stage(7, 28 / 256)), action=Action.REROUTE),
    ]
    assert len({identity(schedule, POCKET) for schedule in [made[0], *others]}) == 5


def test_defaults_are_what_the_other_commands_run() -> None:
    """Each published method is the schedule that --method and --ratio give, and goes by the same words."""
    made, missing = defaults(_space(0.667), ScheduleChoice("fastv", "prune", ratio=0.667))
    assert not missing
    assert [one.name for one in made] == [f"{method}-{action}" for method in ALL[0] for action in ALL[1]]
    for one in made:
        typed = ScheduleChoice(one.plan.method, one.plan.action, ratio=0.667)
        assert one.schedule == typed.build(POCKET)
        assert one.choice.identity() == typed.identity()


def test_a_default_that_is_out_of_reach_says_why() -> None:
    """Where the first layers must stay dense, a method that can't go so low is left out with its reason."""
    target = Target(12, 4, 256, "")
    made, missing = defaults(_space(0.65, target), ScheduleChoice("fastv", "prune", ratio=0.65))
    assert "pdrop-prune" in {one.name for one in made} | set(missing)
    assert all("cannot reach" in why for why in missing.values())
    assert len(made) + len(missing) == 6


def test_neighbours_differ_in_one_thing() -> None:
    """Around three decision layers plans move, add and drop a layer, and there is every other change."""
    plan = SchedulePlan("fastv", "reroute", (3, 5, 8))
    found = neighbours(plan, _space(0.667), Random(0))
    cuts = {one.decisions for one in found}
    assert {(2, 5, 8), (3, 4, 8), (3, 6, 8), (3, 5, 9), (3, 5), (5, 8), (3, 4, 5, 8), (2, 4, 7)} <= cuts
    assert plan not in found
    same = [one for one in found if one.decisions == plan.decisions]
    assert {one.decay for one in same} >= {0.7, 1.4}
    assert any(one.action == "prune" for one in same)
    assert any(one.scorer != plan.scorer for one in same)
    assert any(one.earlier for one in same)
    assert any(one.method == "nuwa" for one in same)


def test_a_nuwa_plan_has_its_vision_stage_at_the_first_layer_that_may() -> None:
    """The vision stage stands at the first layer that may be reduced, and its ratio is over that of the next
    stage by rho."""
    target = Target(12, 2, 400, "")
    space = SearchSpace(target, 12 * 120, *ALL)
    made = candidate(SchedulePlan("nuwa", "reroute", (5, 8), rho=0.5), space, "start")
    assert made is not None
    assert made.schedule.vision is not None
    assert (made.schedule.vision.layer, made.schedule.vision.scorer) == (2, "column_mean")
    vision, *stages = made.schedule.counts(400, 12)
    assert all(abs(count - vision / 2) <= 2 for count in stages)


def test_the_least_that_can_be_spent() -> None:
    """Dense layers that must stay, and one token in every other one."""
    assert least_tokens(POCKET) == 12
    assert least_tokens(Target(36, 3, 1000, "")) == 3033


@pytest.mark.parametrize("action", ["prune", "reroute"])
def test_a_method_that_chooses_before_the_decoder_can_be_searched(action: str) -> None:
    """Its default is the published schedule; plans keep its selection, and decide later with what is left."""
    space = SearchSpace(POCKET, 12 * 85, ("divprune",), (action,))
    (made,), missing = defaults(space, ScheduleChoice("fastv", budget=85))
    assert missing == {}
    assert made.schedule == solve("divprune", action=action, ratio=1 - 85 / 256, layers=12, visual=256)
    plans = [made.plan, *neighbours(made.plan, space, Random(0))]
    found = [one for plan in plans if (one := candidate(plan, space, "neighbour"))]
    behind = [one for one in found if one.schedule.vision is not None]
    assert len(behind) > 3
    for one in behind:
        assert one.schedule.vision is not None
        assert one.schedule.vision.selection == "divprune"
        assert sum(one.schedule.tokens_per_layer(256, 12)) <= space.tokens
        assert "divprune,cls" in one.identity
