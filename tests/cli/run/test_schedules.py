"""The schedule options: what they mean together, and which of them contradict each other."""

import pytest

from reroute_cli.console.errors import UsageError
from reroute_cli.console.typed import read_layers
from reroute_cli.run.schedules import ScheduleChoice
from routing import BudgetError, Schedule, ScheduleError
from routing.solve import Target

POCKET = Target(layers=12, first_layer=0, visual=256, vision_tower="clip_vision_model")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"ratio": 0.5}, "--method"),
        ({"budget": 64.0}, "--method"),
        ({"action": "reroute"}, "--method"),
        ({"method": "fastv"}, "--ratio"),
        ({"method": "fastv", "ratio": 0.5, "budget": 64.0}, "one of them"),
        ({"method": "fast", "ratio": 0.5}, "fastv"),
        ({"method": "none", "ratio": 0.5}, "every visual token"),
        ({"method": "none", "budget": 5.0}, "every visual token"),
        ({"profile": "pocket-prune", "method": "fastv"}, "--method"),
        ({"profile": "pocket-prune", "ratio": 0.5}, "--ratio"),
        ({"profile": "pocket-prune", "budget": 9.0}, "--budget"),
        ({"profile": "pocket-prune", "action": "prune"}, "--action"),
        ({"profile": "pocket-prune", "layers": (3,)}, "--layers"),
        ({"layers": (3,)}, "--method"),
        ({"method": "none", "layers": (3,)}, "--layers"),
        *[({"method": "fastv", "ratio": ratio}, str(ratio)) for ratio in (1.0, 1.5, -0.1, float("nan"))],
        *[
            ({"method": "fastv", "budget": budget}, str(budget))
            for budget in (0.0, -3.0, float("nan"), float("inf"))
        ],
    ],
    ids=str,
)
def test_options_that_contradict_each_other_are_refused(options, word):
    """Before anything is loaded, with what was given and what to do."""
    with pytest.raises(UsageError, match=word.replace("-", r"\-")):
        ScheduleChoice(**options)


def test_without_options_the_model_runs_dense():
    """No method, or the method none, is the empty schedule."""
    assert ScheduleChoice().build(POCKET) == Schedule()
    assert ScheduleChoice(method="none").build(POCKET) == Schedule()


def test_a_budget_is_the_ratio_that_leaves_it():
    """64 of 256 tokens a layer is a reduction ratio of 0.75."""
    by_budget = ScheduleChoice(method="pdrop", action="reroute", budget=64.0)
    by_ratio = ScheduleChoice(method="pdrop", action="reroute", ratio=0.75)
    assert by_budget.build(POCKET) == by_ratio.build(POCKET)
    assert by_budget.asked_ratio(256) == 0.75


def test_a_budget_beyond_the_tokens_is_refused():
    """More tokens than there are can't be spent."""
    with pytest.raises(BudgetError):
        ScheduleChoice(method="fastv", budget=257.0).build(POCKET)


def test_the_seed_reaches_the_random_method_and_no_other():
    """--seed is the random method's option; a method that has none ignores it."""
    assert ScheduleChoice(method="random", ratio=0.5, seed=7).build(POCKET).seed == 7
    assert ScheduleChoice(method="fastv", ratio=0.5, seed=7).build(POCKET).seed == 0


@pytest.mark.parametrize(
    ("tower", "scorer"),
    [
        ("clip_vision_model", "cls"),
        ("internvl_vision", "cls"),
        ("siglip_vision_model", "column_mean"),
        ("", "column_mean"),
    ],
)
def test_nuwa_ranks_by_what_the_vision_tower_has(tower, scorer):
    """Towers with a CLS token rank by it, the others by column means."""
    target = Target(layers=32, first_layer=0, visual=576, vision_tower=tower)
    assert ScheduleChoice(method="nuwa", ratio=0.889).build(target).vision.scorer == scorer


def test_a_profile_that_does_not_fit_the_model_is_refused():
    """A profile for 32 layers has stages that a model of 12 lacks: one sentence with both."""
    with pytest.raises(UsageError, match=r"llava15-avg192-pdrop.*layer 23"):
        ScheduleChoice(profile="llava15-avg192-pdrop").build(POCKET)


def test_a_profile_made_for_another_model_is_remarked_upon():
    """Where the stages do fit, the difference is said; where all is as made, nothing is."""
    choice = ScheduleChoice(profile="llava15-avg192-fastv")
    assert "32 layers" in (choice.caveat("llava", 12) or "")
    assert choice.caveat("llava", 32) is None
    assert ScheduleChoice(method="fastv", ratio=0.5).caveat("llava", 12) is None


def test_layers_take_the_place_of_the_methods_own():
    """The stages stand where they were asked for, and the average is still the one of the ratio."""
    own = ScheduleChoice(method="fastv", action="reroute", ratio=0.667).build(POCKET)
    cut = ScheduleChoice(method="fastv", action="reroute", ratio=0.667, layers=(3, 5, 8)).build(POCKET)
    assert [stage.layer for stage in own.stages] != [3, 5, 8]
    assert [stage.layer for stage in cut.stages] == [3, 5, 8]
    assert cut.counts(256, 12) == (28, 28, 28)  # 3 * 256 + 9 * 28 = 12 * 0.333 * 256, rounded down
    assert cut.average_tokens(256, 12) == pytest.approx(0.333 * 256, abs=1)


@pytest.mark.parametrize(
    ("options", "problem", "words"),
    [
        ({"method": "fastv", "layers": (3, 12), "action": "reroute"}, ScheduleError, r"0\.\.11.*\[3, 12\]"),
        ({"method": "fastv", "layers": (3, 5)}, ScheduleError, r"one cut layer, got \[3, 5\]"),
        ({"method": "nuwa", "layers": (0,)}, ScheduleError, r"1\.\.11"),
        ({"method": "fastv", "layers": (8,)}, BudgetError, r"layer 8 of 12 .* nearest it reaches is 0\.3"),
    ],
    ids=str,
)
def test_layers_that_the_model_or_the_method_has_no_room_for_are_refused(options, problem, words):
    """The engine's sentence names the layers given and those that are there, or the nearest ratio."""
    with pytest.raises(problem, match=words):
        ScheduleChoice(ratio=0.5, **options).build(POCKET)


def test_layers_are_part_of_what_determines_an_answer():
    """Equal methods at other layers have other identities; without layers nothing is in it of them."""
    plain, cut = (ScheduleChoice(method="fastv", ratio=0.5, layers=layers) for layers in (None, (3,)))
    assert cut.identity() == plain.identity() | {"cuts": [3]}
    assert "cuts" not in plain.identity()


@pytest.mark.parametrize(
    ("text", "layers"), [(None, None), ("3", (3,)), ("3,5,8", (3, 5, 8)), (" 0 , 11 ", (0, 11))]
)
def test_a_list_of_layers_is_read(text, layers):
    """Numbers from 0 that rise, with or without spaces."""
    assert read_layers(text) == layers


@pytest.mark.parametrize("text", ["", ",", "3,", "x", "3.5", "-1", "5,3", "3,3", "3+5", "٣", "9" * 7, "3;5"])
def test_what_is_no_list_of_layers_is_refused(text):
    """One sentence with what was given and how it is written."""
    with pytest.raises(UsageError, match=r"^--layers '.*' is no list of decoder layers: .* like 3,5,8$"):
        read_layers(text)


@pytest.mark.parametrize("command", [("ask", "x.png", "where?"), ("batch", "."), ("plan",), ("profile",)])
def test_every_command_with_a_schedule_takes_layers(run, fails, command):
    """A list that is none is a usage error of each, before anything is opened or loaded."""
    fails(run(*command, "--method", "fastv", "--ratio", "0.5", "--layers", "3-5"), 2, "--layers '3-5'")


def test_plan_shows_stages_at_the_layers(run):
    """The option reaches the solver."""
    import json

    done = run(
        "plan", "--method", "fastv", "--action", "reroute", "--ratio", "0.5", "--layers", "3,5,8", "--json"
    )
    assert [stage["layer"] for stage in json.loads(done.stdout)["schedule"]["stages"]] == [3, 5, 8]
