"""Settings of methods: `--set NAME=VALUE`, NAME=VALUE in `--arms`, a dict in Python; one reading of all."""

import json

import pytest

import reroute_cli as reroute
from reroute_cli.console.errors import UsageError
from reroute_cli.console.options import ArmsOptions
from reroute_cli.console.study_options import GridOptions
from reroute_cli.console.typed import TYPED_OTHERWISE, settings_in
from reroute_cli.integrations.lmms_eval.arguments import read_arguments
from reroute_cli.records.sweep import pairs_of
from reroute_cli.run.schedules import ScheduleChoice, arms_of
from reroute_cli.views.wording import arm_title
from routing import METHODS, ScheduleError, solve
from routing.solve import Target

TARGET = Target(layers=12, first_layer=0, visual=256, vision_tower="clip_vision_model")


def _choice(method, *settings, **more):
    return ScheduleChoice(method, ratio=0.6, set=settings, **more)


@pytest.mark.parametrize(
    ("method", "word", "given"),
    [
        ("sparsevlm", "version=2", {"version": 2}),
        ("sparsevlm", "recycle=no", {"recycle": False}),
        ("sparsevlm", "scored_by = own", {"scored_by": "own"}),
        ("nuwa", "rho=0.5", {"rho": 0.5}),
        ("holov", "chunks=4", {"chunks": 4}),
        ("flashvid", "alpha=0.25", {"alpha": 0.25}),
        ("vispruner", "vision_scorer=column_mean", {"vision_scorer": "column_mean"}),
    ],
)
def test_a_setting_reaches_the_solver(method, word, given):
    """The schedule is what `solve` makes of the same value, and not the one without it."""
    found = _choice(method, word).build(TARGET)
    assert found == solve(method, ratio=0.6, layers=12, visual=256, **given)
    assert found != _choice(method).build(TARGET)


@pytest.mark.parametrize("method", METHODS)
def test_every_option_of_a_method_can_be_typed(method):
    """It is a setting, or has an option of its own here."""
    for name in METHODS[method].options:
        assert name in TYPED_OTHERWISE or settings_in([f"{name}=1"], method) == {name: 1}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("verson=2",), "sparsevlm has no setting 'verson': it has scored_by, recycle, version"),
        (("cuts=3",), "sparsevlm has no setting 'cuts'"),
        (("version",), "'version' is no setting: give NAME=VALUE"),
        (("version=",), "'version=' is no setting"),
        (("version=2", "version=1"), "twice"),
    ],
)
def test_what_is_no_setting_of_the_method_is_refused(settings, words):
    """One sentence, which names those that there are."""
    with pytest.raises(UsageError, match=words):
        _choice("sparsevlm", *settings)


def test_an_arm_without_that_setting_names_those_it_has():
    """A setting belongs to the one arm that it is written in."""
    with pytest.raises(UsageError, match="fastv has no setting 'version': it has scored_by"):
        arms_of(ArmsOptions(arms="sparsevlm:version=2,fastv:reroute:version=2", ratio=0.5))


@pytest.mark.parametrize(
    ("method", "word", "words"),
    [
        ("sparsevlm", "version=3", "version must be 1 or 2, got 3"),
        ("sparsevlm", "version=yes", "version must be 1 or 2, got True"),
        ("holov", "chunks=0", "chunks must be a whole number from 1 up, got 0"),
        ("flashvid", "alpha=1.5", "alpha must be a number from 0 to 1, got 1.5"),
        ("fastv", "scored_by=next", "scored_by must be one of own, previous, got 'next'"),
    ],
)
def test_a_setting_out_of_bounds_is_refused_by_its_method(method, word, words):
    """Its own sentence says what it may be."""
    with pytest.raises(ScheduleError, match=words):
        _choice(method, word).build(TARGET)


def test_only_a_setting_that_is_given_is_in_the_key():
    """Without one the identity of a schedule is what it was; with one it is another."""
    plain = ScheduleChoice("sparsevlm", ratio=0.6).identity()
    assert set(plain) == {"method", "action", "ratio", "budget", "seed"}
    assert _choice("sparsevlm", "version=2").identity() == plain | {"settings": {"version": 2}}


def test_an_arm_is_called_by_its_settings():
    """They stand behind the method and its layers, and what differs in them is no pair."""
    arms = arms_of(GridOptions("sparsevlm:version=2,sparsevlm@4+6:reroute:recycle=no,sparsevlm", "0.5"))
    assert [arm.name for arm in arms[1:]] == [
        "sparsevlm:version=2-prune 0.5",
        "sparsevlm:version=2-reroute 0.5",
        "sparsevlm@4+6:recycle=no-reroute 0.5",
        "sparsevlm-prune 0.5",
        "sparsevlm-reroute 0.5",
    ]
    pairs = pairs_of(arms, lambda arm: arm.asked)
    assert [(pair.place, pair.prune is not None, pair.reroute is not None) for pair in pairs] == [
        ("sparsevlm:version=2", True, True),
        ("sparsevlm@4+6:recycle=no", False, True),
        ("sparsevlm", True, True),
    ]


def test_a_setting_of_no_arm_in_particular_is_refused():
    """`--set` is of one method: among several it is written where it applies."""
    with pytest.raises(UsageError, match="among --arms write METHOD:version=2"):
        ArmsOptions(arms="sparsevlm,fastv", ratio=0.5, set=["version=2"])
    with pytest.raises(UsageError, match="drop --set or drop --profile"):
        ScheduleChoice(profile="pocket-prune", set=["version=2"])


def test_the_command_line_and_python_ask_the_same(warm, run, picture):
    """Both give the schedule of `solve`; the record names the settings; the answer has its own key."""
    question, amount = "where is the box?", ("--method", "sparsevlm", "--ratio", "0.6", "--json")
    typed, plain = (
        json.loads(run("ask", picture, question, *amount, *more).stdout)
        for more in (("--set", "version=2", "--set", "scored_by=own"), ())
    )
    given = {"version": 2, "scored_by": "own"}
    made = reroute.ask(warm, picture, question, method="sparsevlm", ratio=0.6, set=given)
    assert typed["schedule"]["settings"] == made.schedule.settings == given
    wanted = solve("sparsevlm", ratio=0.6, layers=12, visual=256, **given).digest()
    assert typed["schedule"]["digest"] == made.schedule.digest == wanted != plain["schedule"]["digest"]
    assert typed["key"] == made.key != plain["key"]
    assert plain["schedule"]["settings"] == {}


def test_lmms_eval_can_say_it():
    """Its arguments are parted by commas and =, so settings are joined by + and :."""
    found = read_arguments({"method": "sparsevlm", "ratio": 0.6, "set": "version:2+scored_by:own"})
    assert found.choice == _choice("sparsevlm", "version=2", "scored_by=own")


def test_eval_shows_arms_of_one_method_apart(warm, run, tmp_path):
    """Two settings of a method are two arms, each with its own schedule and its settings in the report."""
    path = tmp_path / "eval.json"
    arms = "sparsevlm:prune,sparsevlm:prune:version=2"
    done = run("eval", "--arms", arms, "--ratio", "0.6", "--limit", "2", "-q", "-o", str(path))
    assert done.exit_code == 0, done.output
    found = {arm["name"]: arm for arm in json.loads(path.read_text())["arms"]}
    assert list(found) == ["dense", "sparsevlm-prune", "sparsevlm:version=2-prune"]
    assert [arm["choice"]["settings"] for arm in found.values()] == [{}, {}, {"version": 2}]
    digests = {arm["made"]["first"]["digest"] for arm in found.values()}
    assert len(digests) == 3


def test_a_long_name_loses_no_action():
    """In a narrow table the end of the place goes, not what tells two arms apart."""
    assert arm_title("sparsevlm:version=2-reroute 0.5", "reroute", 24) == "sparsevlm:v… reroute 0.5"
    assert arm_title("sparsevlm:version=2-prune", "prune", 28) == "sparsevlm:version=2 prune"
