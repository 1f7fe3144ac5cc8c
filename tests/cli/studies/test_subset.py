"""--subset hard: the questions that dense answers right and a smaller image wrong, scored beside all."""

import json

import pytest

from reroute_cli.console.errors import UsageError
from reroute_cli.measure.scores import WORDS_RIGHT
from reroute_cli.measure.stats import wilson_interval
from reroute_cli.records.sweep import pairs_of
from reroute_cli.run.schedules import Arm, ScheduleChoice
from reroute_cli.studies.questions import check_subset, hard_parts, whole
from tests.cli.judged import DENSE, arm, rows

SMALL, SMALLER = (
    Arm(f"downsample {ratio}", ScheduleChoice("downsample", ratio=ratio)) for ratio in (0.5, 0.7)
)
ARMS = (DENSE, arm("fastv", "prune"), arm("fastv", "reroute"), SMALL)
ANSWERED = ("--arms", "fastv:prune,downsample", "--subset", "hard", "--limit", "12")
# an image each: dense, prune, reroute, downsample
TABLE = [
    [(True, False, True, False)],
    [(True, True, True, False)],
    [(True, False, False, False)],
    [(True, False, True, True)],
    [(False, True, True, False)],
    [(True, False, True, False)],
    [(True, False, True, False)],
    [(True, True, True, False), (True, True, False, True)],
    [(True, None, True, False)],
]


@pytest.fixture
def hard():
    """The one subset of the table."""
    (part,) = hard_parts(whole(rows(TABLE)), [WORDS_RIGHT], ARMS)
    return part


def test_it_is_of_the_questions_that_dense_has_right_and_the_smaller_image_wrong(hard):
    """Six of nine that every arm answered; not the one that dense has wrong too, nor the one that failed."""
    assert (hard.control, hard.n, hard.images, hard.compared, hard.few) == ("downsample 0.5", 6, 6, 9, False)


def test_each_arm_is_scored_on_them_with_its_interval(hard):
    """Shares counted by hand: dense all, downsample none, prune 2 and reroute 5 of 6; Wilson's intervals."""
    shares = {name: part.scores["words_right"] for name, part in hard.arms.items()}
    assert {name: part.value for name, part in shares.items()} == {
        "dense": 1.0,
        "fastv-prune": 2 / 6,
        "fastv-reroute": 5 / 6,
        "downsample 0.5": 0.0,
    }
    for part in shares.values():
        assert part.n == 6
        assert (part.low, part.high) == pytest.approx(wilson_interval(part.value, 6))


def test_arms_are_compared_on_them_in_pairs(hard):
    """Reroute minus prune over the same six: three questions are right under reroute alone, none reversed."""
    part = hard.arms["fastv-reroute"].to_prune["words_right"]
    assert part.value == pytest.approx(3 / 6)
    assert (part.only_this, part.only_base, part.n) == (3, 0, 6)
    assert part.low is not None
    assert part.low <= 0.5 <= part.high


def test_few_of_them_are_said_to_be_few():
    """Below six images no interval can be made, and the record says so."""
    (part,) = hard_parts(whole(rows(TABLE[:3])), [WORDS_RIGHT], ARMS)
    assert (part.n, part.few) == (3, True)
    assert part.arms["fastv-reroute"].to_prune["words_right"].low is None


def test_each_amount_has_its_own():
    """A smaller image of another amount is wrong on other questions, and other arms stand beside it."""
    table = rows([[(True, False, False, True)], [(True, True, True, False)]])
    arms = (DENSE, arm("fastv", "prune", 0.7), SMALL, SMALLER)
    parts = hard_parts(whole(table), [WORDS_RIGHT], arms)
    assert [list(part.arms) for part in parts] == [
        ["dense", "downsample 0.5"],
        ["dense", "fastv-prune", "downsample 0.7"],
    ]
    assert [part.n for part in parts] == [1, 1]


def test_none_at_all_is_a_subset_of_nothing():
    """Where the smaller image is right on everything no arm has a score."""
    (part,) = hard_parts(whole(rows([[(True, True, True, True)]])), [WORDS_RIGHT], ARMS)
    assert (part.n, part.few) == (0, True)
    assert all(not scores.scores for scores in part.arms.values())


def test_without_a_smaller_image_nothing_tells_which_they_are():
    """Refused in one sentence that says what to add."""
    check_subset(None, ARMS[:3])
    check_subset("hard", ARMS)
    with pytest.raises(UsageError, match="add downsample to --arms"):
        check_subset("hard", ARMS[:3])


def test_a_smaller_image_stands_alone_where_actions_are_paired():
    """It has no action, so its line of a sweep has one arm and no difference."""
    lines = pairs_of(ARMS[1:], lambda one: one.asked)
    assert [line.place for line in lines] == ["fastv", "downsample"]
    assert [line.reroute is None for line in lines] == [False, True]
    assert lines[1].prune is SMALL


def test_eval_reports_them_beside_all(warm, run, tmp_path):
    """The record's subset is what its own answers say; without the option there is none in it."""
    file, records = tmp_path / "eval.json", tmp_path / "answers.jsonl"
    given = ("--ratio", "0.97", "--records", str(records), "-o", str(file), "--bench", "scenes")
    said = run("eval", *ANSWERED, *given)
    assert said.exit_code == 0, said.output
    found = json.loads(file.read_text())
    (part,) = found["subsets"]
    marks = [(item["said"]["dense"]["right"], item["said"]["downsample"]["right"]) for item in found["items"]]
    assert part["n"] == sum(dense and not small for dense, small in marks) > 0
    assert f"hard for downsample: {part['n']} of 12 questions" in " ".join(said.stdout.split())
    assert run("eval", *ANSWERED[:2], *ANSWERED[4:], *given).exit_code == 0
    assert json.loads(file.read_text())["subsets"] == []


def test_sweep_reports_them_for_each_amount(warm, run, tmp_path):
    """One subset an amount, each counted from the record's own marks."""
    file = tmp_path / "sweep.json"
    given = ("--ratios", "0.9,0.97", "--cost-items", "0", "-o", str(file), "--bench", "scenes")
    said = run("sweep", *ANSWERED, *given)
    assert said.exit_code == 0, said.output
    found = json.loads(file.read_text())
    right = {one["name"]: one["right"] for one in found["arms"]}
    for part, amount in zip(found["subsets"], ("0.9", "0.97"), strict=True):
        pairs = zip(right["dense"], right[f"downsample {amount}"], strict=True)
        assert part["n"] == sum(pair == ("1", "0") for pair in pairs)
        assert list(part["arms"]) == ["dense", f"fastv-prune {amount}", f"downsample {amount}"]
