"""Trials: the same items under every arm, kept, resumed and judged; with the embedded model itself."""

import json
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from reroute_cli.arms import ArmOptions, arms_of
from reroute_cli.batch_inputs import BatchItem, batch_items
from reroute_cli.errors import Failure
from reroute_cli.evaluation.feasible import checked
from reroute_cli.evaluation.trial import hold_trial, records_at
from reroute_cli.judges import Truth
from reroute_cli.record_file import RecordFile
from routing.errors import BudgetError

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
ARMS = arms_of(ArmOptions(method="pdrop", action="reroute", ratio=0.8))


@pytest.fixture
def items():
    """Six sample questions with their truths."""
    return batch_items(None, None, SAMPLES / "manifest.jsonl", 6).items


@pytest.fixture
def hold(pocket, tmp_path):
    """A function that holds a trial on a file of this test's own."""

    def held(items, arms=ARMS, done=lambda: None, name="r.jsonl", size=4):
        with RecordFile(tmp_path / name) as file:
            return hold_trial(pocket, arms, items, file, max_new_tokens=11, batch_size=size, done=done)

    return held


def test_every_item_has_an_answer_of_every_arm(hold, items):
    """In the items' order, with their questions and truths; `done` is called after each answer."""
    steps = []
    trial = hold(items, done=lambda: steps.append(1))
    assert [row.id for row in trial.rows] == [item.id for item in items]
    assert [row.truth for row in trial.rows] == [item.truth for item in items]
    assert all(row.whole and len(row.said) == 2 for row in trial.rows)
    assert len(steps) == 12
    assert (trial.course.answered, trial.course.resumed, trial.failed) == (12, 0, 0)


def test_nothing_is_asked_twice(hold, items):
    """A second trial on the file answers nothing and says the same; a new arm asks only for itself."""
    first, again = hold(items), hold(items)
    assert (again.course.answered, again.course.resumed) == (0, 12)
    assert again.rows == first.rows
    more = arms_of(ArmOptions(arms="pdrop", ratio=0.8))
    assert (hold(items, more).course.answered, hold(items, more).course.resumed) == (6, 18)


def test_a_failure_is_one_items_alone(hold, items, tmp_path):
    """A picture that is none leaves its row without verdicts, and every other row whole."""
    (tmp_path / "bad.png").write_bytes(b"no picture")
    bad = replace(items[2], path=str(tmp_path / "bad.png"))
    trial = hold([*items[:2], bad, *items[3:]])
    assert [row.whole for row in trial.rows] == [True, True, False, True, True, True]
    assert all(said.verdict is None and said.error for said in trial.rows[2].said)
    assert trial.failed == 2
    assert [tally.errors for tally in trial.costs] == [1, 1]


def test_an_item_without_truth_ends_the_trial(hold, items):
    """There is nothing to judge it by, and the sentence names it."""
    with pytest.raises(Failure, match=r"no 'answer' and no 'box'"):
        hold([*items[:3], replace(items[3], truth=None)])


def test_a_record_that_was_tampered_with_is_refused(hold, items, tmp_path):
    """A kept answer whose parts are missing is named, not a bug and not a wrong number."""
    hold(items)
    path = tmp_path / "r.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    del lines[3]["tokens"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(Failure, match="no whole answer"):
        hold(items)


def test_the_schedule_is_told_as_it_was_made(hold, items):
    """Each arm's first stages, the digests of all schedules, and how many answers were cut."""
    trial = hold(items)
    dense, routed = trial.schedules
    assert (dense.first.stages, len(dense.digests)) == ([], 1)
    assert routed.first.action == "reroute"
    assert [stage.layer for stage in routed.first.stages]
    assert routed.digests == {routed.first.digest}
    assert routed.cut == 0


def test_the_digest_of_the_items_is_about_what_is_asked(hold, items, tmp_path):
    """The same under other arms; another once a truth, a question, a picture's bytes or the order differs."""
    digest = hold(items).items_digest
    assert hold(items, ARMS[:1], name="other").items_digest == digest
    copy = tmp_path / "copy.png"
    shutil.copy(items[0].path, copy)
    assert hold([replace(items[0], path=str(copy)), *items[1:]]).items_digest == digest
    copy.write_bytes(copy.read_bytes() + b" ")
    changed = {
        hold([replace(items[0], path=str(copy)), *items[1:]]).items_digest,
        hold([replace(items[0], truth=Truth("words", ("moon",))), *items[1:]]).items_digest,
        hold([replace(items[0], question="what is that?"), *items[1:]]).items_digest,
        hold(items[::-1]).items_digest,
        digest,
    }
    assert len(changed) == 5


def test_a_stream_of_pictures_is_not_held(hold):
    """Forty pictures of two megabytes that come as bytes: memory for a few of them, and no row keeps any."""
    picture = (SAMPLES / "desk.png").read_bytes()

    def stream():
        for number in range(40):
            data = picture + bytes(2 << 20)  # PNG ends where it says; what follows is passed over
            yield BatchItem(f"i{number}", f"p{number}", "", "how many?", Truth("words", ("1",)), data=data)

    tracemalloc.start()
    trial = hold(stream(), ARMS[:1], size=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(trial.rows), trial.failed) == (40, 0)
    assert peak < 60 << 20, "all forty would be 80 MiB"


def test_a_schedule_that_cannot_be_had_is_known_before_anything_is_asked(pocket, items):
    """The first item that can be read decides; the ones that can't be are left to the run."""
    impossible = arms_of(ArmOptions(method="nuwa", ratio=0.1))
    with pytest.raises(BudgetError):
        checked(pocket, impossible, items)
    broken = [replace(item, path="/nowhere.png") for item in items]
    assert list(checked(pocket, impossible, broken)) == broken
    assert list(checked(pocket, ARMS, iter(items))) == list(items)


def test_no_items_are_a_failure(pocket):
    """A benchmark that yields nothing gives a sentence."""
    with pytest.raises(Failure, match="no question"):
        checked(pocket, ARMS, iter(()))


def test_without_a_path_the_answers_are_gone_at_the_end():
    """They live in a folder that does not outlast the block."""
    with records_at(None) as file:
        assert file.path.exists()
    assert not file.path.parent.exists()
