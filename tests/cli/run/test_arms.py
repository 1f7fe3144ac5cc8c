"""From the schedule options to the arms of a run."""

import pytest

from reroute_cli.console.errors import UsageError
from reroute_cli.console.options import ArmsOptions
from reroute_cli.run.schedules import arms_of


def _names(**typed):
    return [arm.name for arm in arms_of(ArmsOptions(**typed))]


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ({}, ["dense"]),
        ({"method": "none"}, ["dense"]),
        ({"method": "nuwa", "ratio": 0.9}, ["dense", "nuwa-prune"]),
        ({"method": "nuwa", "action": "reroute", "budget": 64.0}, ["dense", "nuwa-reroute"]),
        ({"profile": "pocket-prune"}, ["dense", "pocket-prune"]),
        ({"arms": "nuwa", "ratio": 0.9}, ["dense", "nuwa-prune", "nuwa-reroute"]),
        (
            {"arms": " pdrop:reroute , nuwa ", "ratio": 0.9},
            ["dense", "pdrop-reroute", "nuwa-prune", "nuwa-reroute"],
        ),
        (
            {"arms": "fastv:prune,random", "budget": 64.0},
            ["dense", "fastv-prune", "random-prune", "random-reroute"],
        ),
        ({"method": "pdrop", "ratio": 0.5, "layers": (2, 7)}, ["dense", "pdrop@2+7-prune"]),
        (
            {"arms": "fastv@3:prune, fastv@3+5+8:reroute ,pdrop@ 2 + 7", "ratio": 0.5},
            ["dense", "fastv@3-prune", "fastv@3+5+8-reroute", "pdrop@2+7-prune", "pdrop@2+7-reroute"],
        ),
    ],
)
def test_arms_are_what_was_typed_with_dense_first(typed, names):
    """A list names both actions of a method unless it says which."""
    assert _names(**typed) == names


def test_every_arm_of_a_list_has_the_same_amount_and_seed():
    """--ratio, --budget and --seed hold for all."""
    arms = arms_of(ArmsOptions(arms="random,fastv", ratio=0.5, seed=7))
    assert {(arm.choice.ratio, arm.choice.budget, arm.choice.seed) for arm in arms[1:]} == {(0.5, None, 7)}


def test_an_arm_with_layers_decides_at_these_layers():
    """What stands after @ are the layers of the schedule's stages, each arm's its own."""
    from routing.solve import Target

    arms = arms_of(ArmsOptions(arms="fastv@3+5+8:reroute,fastv:prune,nuwa@7:prune", ratio=0.5))
    made = [arm.choice.build(Target(12, 0, 256, "clip_vision_model")) for arm in arms[1:]]
    assert [[stage.layer for stage in schedule.stages] for schedule in made] == [[3, 5, 8], [1], [7]]


def test_the_dense_arm_is_dense():
    """It has no method, no action and an empty schedule."""
    from routing.solve import Target

    dense = arms_of(ArmsOptions(method="fastv", ratio=0.5))[0]
    assert (dense.method, dense.action) == (None, None)
    assert dense.choice.build(Target(12, 0, 256, "")).entries == ()


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"arms": "nuwa"}, "--ratio"),
        ({"arms": "", "ratio": 0.5}, "METHOD"),
        ({"arms": "nuwa,,fastv", "ratio": 0.5}, ":ACTION"),
        ({"arms": "nuwa:", "ratio": 0.5}, "prune or reroute"),
        ({"arms": "nuwa:drop", "ratio": 0.5}, "nuwa:drop"),
        ({"arms": "none", "ratio": 0.5}, "always there"),
        ({"arms": "magic", "ratio": 0.5}, "no method 'magic'"),
        ({"arms": "nuwa,nuwa:prune", "ratio": 0.5}, "'nuwa-prune'"),
        ({"arms": "nuwa", "ratio": 0.5, "method": "fastv"}, "drop --method"),
        ({"arms": "nuwa", "ratio": 0.5, "action": "prune"}, "drop --action"),
        ({"arms": "nuwa", "ratio": 0.5, "profile": "pocket-prune"}, "drop --profile"),
        ({"arms": "nuwa", "ratio": 0.5, "layers": (3,)}, "drop --layers"),
        ({"arms": "fastv@:prune", "ratio": 0.5}, "fastv@:prune.* rising numbers, like 3[+]5[+]8"),
        ({"arms": "fastv@3+x", "ratio": 0.5}, "'3[+]x' is no list"),
        ({"arms": "fastv@5+3", "ratio": 0.5}, "'5[+]3' is no list"),
        ({"arms": "@3", "ratio": 0.5}, "METHOD"),
        ({"arms": "fastv:prune@3", "ratio": 0.5}, "fastv:prune@3"),
        ({"arms": "fastv@3:prune,fastv@3", "ratio": 0.5}, "'fastv@3-prune'"),
        ({"arms": "nuwa", "ratio": 0.5, "budget": 64.0}, "--budget"),
        ({"ratio": 0.5}, "--method"),
        ({"method": "nuwa"}, "--ratio"),
    ],
)
def test_what_makes_no_sense_is_said(typed, words):
    """One sentence that names what was given or what is missing."""
    with pytest.raises(UsageError, match=words.replace("(", r"\(")):
        arms_of(ArmsOptions(**typed))


def test_a_profile_called_dense_would_be_mistaken_for_it(tmp_path):
    """Its name is taken."""
    file = tmp_path / "dense.yaml"
    file.write_text("title: x\nstages: [{layer: 3, keep_ratio: 0.5}]\n")
    with pytest.raises(UsageError, match="'dense'"):
        arms_of(ArmsOptions(profile=str(file)))
