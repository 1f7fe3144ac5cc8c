"""The arms of a sweep: which there are, what a model can reach, and which stand side by side."""

import pytest

from reroute_cli.console.errors import UsageError
from reroute_cli.console.study_options import GridOptions
from reroute_cli.records.sweep import pairs_of
from reroute_cli.run.schedules import arms_of
from reroute_cli.studies.sweep import reach
from routing import METHODS, ScheduleError
from routing.solve import Target

POCKET = Target(layers=12, first_layer=0, visual=256, vision_tower="clip_vision_model")


def _sweep(arms, ratios=None, budgets=None):
    return arms_of(GridOptions(arms, ratios, budgets))


def _names(listed, ratios="0.5"):
    return [arm.name for arm in _sweep(listed, ratios)]


def _amounts(**typed):
    choices = [arm.choice for arm in arms_of(GridOptions(arms="fastv:prune", **typed))[1:]]
    return [choice.ratio if choice.budget is None else choice.budget for choice in choices]


def test_amounts_are_sorted_by_how_much_they_reduce():
    """Ratios rise and budgets fall, whatever order they were typed in."""
    assert _amounts(ratios="0.889, .5,0.667") == [0.5, 0.667, 0.889]
    assert _amounts(budgets="28,128,64") == [128, 64, 28]


def test_without_amounts_there_are_three_tiers():
    """The published ones: a third, two ninths and a ninth of the visual tokens."""
    assert _amounts() == [0.667, 0.778, 0.889]


@pytest.mark.parametrize(
    ("ratios", "budgets", "words"),
    [
        ("0.5", "64", "--ratios and --budgets"),
        ("", None, "--ratios has '' in it"),
        ("0.5,", None, "--ratios has '' in it"),
        (",", None, "--ratios has '' in it"),
        (None, "", "--budgets has '' in it"),
        ("half", None, "'half'"),
        ("-0.5", None, "'-0.5'"),
        ("nan", None, "'nan'"),
        ("1e-1", None, "'1e-1'"),
        ("0.5 0.7", None, "'0.5 0.7'"),
        ("1", None, "1 in it.*below 1"),
        ("0.5,1.5", None, "1.5 in it.*below 1"),
        ("0.5,0.889,0.50", None, "0.5 twice"),
        (None, "64,64.0", "64 twice"),
        ("٠.٥", None, "'٠.٥'"),
    ],
)
def test_what_is_no_list_of_amounts_is_refused(ratios, budgets, words):
    """One sentence with what was given and what is allowed."""
    with pytest.raises(UsageError, match=words):
        _amounts(ratios=ratios, budgets=budgets)


def test_a_budget_of_nothing_is_refused():
    """As it is with --budget."""
    with pytest.raises(UsageError, match=r"0\.0 is no number of tokens"):
        _sweep("fastv", None, "0")


def test_without_arms_every_method_goes_both_ways():
    """Every method but the dense one, under each action that it has, at every ratio, after dense."""
    arms = [
        f"{one.name}-{action}" for one in METHODS.values() for action in one.actions if one.name != "none"
    ]
    arms += [one.name for one in METHODS.values() if one.resizes]
    wanted = {f"{arm} {ratio}" for arm in arms for ratio in ("0.667", "0.889")}
    names = _names(None, "0.667,0.889")
    assert names[0] == "dense"
    assert set(names[1:]) == wanted
    assert len(names) == 1 + len(wanted)


def test_an_arm_goes_through_all_amounts_before_the_next_one():
    """The order of the list is kept; the amount is the end of a name."""
    assert _names("pdrop:reroute,fastv@3+5:reroute", "0.889,0.5") == [
        "dense",
        "pdrop-reroute 0.5",
        "pdrop-reroute 0.889",
        "fastv@3+5-reroute 0.5",
        "fastv@3+5-reroute 0.889",
    ]


def test_an_empty_list_of_arms_is_refused():
    """It names none."""
    with pytest.raises(UsageError, match="METHOD"):
        _names("")


def test_arms_out_of_reach_are_told_from_the_others():
    """Three dense layers of twelve are a quarter of the tokens: 0.667 can be had and 0.778 can't."""
    arms = _sweep("fastv@3:prune,nuwa:prune", "0.667,0.778")
    found = reach(arms, [POCKET])
    assert [arm.name for arm in found.arms] == [
        "dense",
        "fastv@3-prune 0.667",
        "nuwa-prune 0.667",
        "nuwa-prune 0.778",
    ]
    assert list(found.refused) == ["fastv@3-prune 0.778"]
    assert "0.747" in found.refused["fastv@3-prune 0.778"]  # (9 - 9/256) / 12, rounded down


def test_one_prompt_that_can_not_be_had_is_enough():
    """A budget beyond the smallest picture's visual tokens is out of reach, whatever the others have."""
    small = Target(layers=12, first_layer=0, visual=60, vision_tower="clip_vision_model")
    arms = _sweep("fastv:prune", None, "64")
    assert reach(arms, [POCKET]).refused == {}
    assert "64" in reach(arms, [POCKET, small]).refused["fastv-prune 64"]


@pytest.mark.parametrize("listed", ["fastv@12:prune", "fastv@3+5:prune", "fastv@3+5"])
def test_layers_that_no_amount_mends_end_the_sweep(listed):
    """Layers that the model or the method lacks are no row but an error."""
    with pytest.raises(ScheduleError):
        reach(_sweep(listed, "0.5", None), [POCKET])


def _pairs(listed, ratios="0.5"):
    arms = _sweep(listed, ratios)
    return [
        (pair.place, pair.prune and pair.prune.name, pair.reroute and pair.reroute.name)
        for pair in pairs_of(arms, lambda arm: arm.asked)
    ]


@pytest.mark.parametrize(
    ("listed", "pairs"),
    [
        ("fastv", [("fastv", "fastv-prune 0.5", "fastv-reroute 0.5")]),
        (
            "fastv:prune,pdrop:reroute",
            [("fastv", "fastv-prune 0.5", None), ("pdrop", None, "pdrop-reroute 0.5")],
        ),
        (
            "fastv@3+5+8:reroute,fastv@3:prune",
            [("fastv@3·3+5+8", "fastv@3-prune 0.5", "fastv@3+5+8-reroute 0.5")],
        ),
        (
            "fastv@2:prune,fastv@3+5:reroute",
            [("fastv@2", "fastv@2-prune 0.5", None), ("fastv@3+5", None, "fastv@3+5-reroute 0.5")],
        ),
        (
            "fastv@3+5:reroute,fastv@3",
            [
                ("fastv@3+5", None, "fastv@3+5-reroute 0.5"),
                ("fastv@3", "fastv@3-prune 0.5", "fastv@3-reroute 0.5"),
            ],
        ),
        (
            "fastv,fastv@3:prune",
            [("fastv", "fastv-prune 0.5", "fastv-reroute 0.5"), ("fastv@3", "fastv@3-prune 0.5", None)],
        ),
    ],
)
def test_a_rerouted_arm_stands_beside_its_pruned_one(listed, pairs):
    """Equal layers first, then equal dense layers; an arm without a partner stands alone."""
    assert _pairs(listed) == pairs


def test_arms_of_different_amounts_are_no_pair():
    """Every pair is of one ratio."""
    assert [pair[1:] for pair in _pairs("pdrop", "0.5,0.667")] == [
        ("pdrop-prune 0.5", "pdrop-reroute 0.5"),
        ("pdrop-prune 0.667", "pdrop-reroute 0.667"),
    ]
