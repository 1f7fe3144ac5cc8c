"""Trials: the same items under every arm, kept, resumed and judged; with the embedded model itself."""

import gc
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from reroute_cli.console.errors import Failure
from reroute_cli.console.options import ArmsOptions
from reroute_cli.data.images import ImageSource
from reroute_cli.data.items import (
    Item,
    Truth,
    batch_items,
)
from reroute_cli.records.store import (
    RecordFile,
    records_at,
)
from reroute_cli.run.schedules import arms_of
from reroute_cli.run.trial import (
    checked,
    hold_trial,
    items_digest,
)
from routing.errors import BudgetError
from tests.cli.counted import counted_bytes

SAMPLES = Path(__file__).resolve().parents[3] / "samples"
ARMS = arms_of(ArmsOptions(method="pdrop", action="reroute", ratio=0.8))


@pytest.fixture(scope="module")
def items():
    """Six sample questions with their truths."""
    return batch_items(None, None, SAMPLES / "manifest.jsonl", 6).chosen


@pytest.fixture(scope="module")
def answered(pocket, items, tmp_path_factory):
    """A file with all answers to these items, under dense and pdrop reroute."""
    path = tmp_path_factory.mktemp("answered") / "r.jsonl"
    _held(pocket, items, ARMS, path)
    return path


def _held(pocket, items, arms, path, done=lambda: None, new=11):
    with RecordFile(path) as file:
        return hold_trial(pocket, arms, items, file, max_new_tokens=new, batch_size=4, done=done)


@pytest.fixture
def hold(pocket, tmp_path, answered):
    """A function that holds a trial on this test's own copy of the answers."""
    shutil.copy(answered, tmp_path / "r.jsonl")

    def held(items, arms=ARMS, **options):
        return _held(pocket, items, arms, tmp_path / "r.jsonl", **options)

    return held


def elsewhere(item, path):
    """The item with its image at another path."""
    return replace(item, images=(replace(item.images[0], path=str(path)),))


def test_every_item_has_an_answer_of_every_arm(pocket, items, tmp_path):
    """In the items' order, with their questions and truths; `done` is called after each answer."""
    steps = []
    trial = _held(pocket, items, ARMS, tmp_path / "new.jsonl", done=lambda: steps.append(1))
    assert [row.id for row in trial.rows] == [item.id for item in items]
    assert [row.label for row in trial.rows] == [item.label for item in items]
    assert all(row.whole and len(row.said) == 2 for row in trial.rows)
    assert len(steps) == 12
    assert (trial.counts.answered, trial.counts.resumed, trial.failed) == (12, 0, 0)


def test_nothing_is_asked_twice(hold, items):
    """A second trial on the file answers nothing; a new arm asks only for itself, and changes nothing."""
    again = hold(items)
    assert (again.counts.answered, again.counts.resumed) == (0, 12)
    more = arms_of(ArmsOptions(arms="pdrop", ratio=0.8))
    first, second = hold(items, more), hold(items, more)
    assert (first.counts.answered, first.counts.resumed) == (6, 12)
    assert (second.counts.answered, second.counts.resumed) == (0, 18)
    assert first.rows == second.rows
    assert [(row.said[0], row.said[2]) for row in first.rows] == [row.said for row in again.rows]


def test_a_failure_is_one_items_alone(hold, items, tmp_path):
    """A picture that is none leaves its row without verdicts, and every other row whole."""
    (tmp_path / "bad.png").write_bytes(b"no picture")
    bad = elsewhere(items[2], tmp_path / "bad.png")
    trial = hold([*items[:2], bad, *items[3:]])
    assert [row.whole for row in trial.rows] == [True, True, False, True, True, True]
    assert all(said.verdict is None and said.error for said in trial.rows[2].said)
    assert trial.failed == 2
    assert [tally.errors for tally in trial.costs] == [1, 1]


def test_an_item_without_truth_ends_the_trial(hold, items):
    """There is nothing to judge it by, and the sentence names it."""
    with pytest.raises(Failure, match=r"no 'answer' and no 'box'"):
        hold([*items[:3], replace(items[3], label=None)])


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


def _fingerprint(items):
    """The digest of these items, each image digested on its own."""
    return items_digest((item, item.contents()) for item in items)


def test_the_digest_of_the_items_is_about_what_is_asked(items, tmp_path):
    """Another place of a picture is the same; its bytes, a question, a truth, a kind or the order are not."""
    copy = tmp_path / "copy.png"
    shutil.copy(items[0].images[0].path, copy)

    def digest(first, rest=items[1:]):
        return _fingerprint([first, *rest])

    same = {digest(items[0]), digest(elsewhere(items[0], copy))}
    copy.write_bytes(copy.read_bytes() + b" ")
    changes = [
        elsewhere(items[0], copy),
        replace(items[0], question="what is that?"),
        replace(items[0], label=Truth("words", ("moon",))),
        replace(items[0], group="other"),
        replace(items[0], id="another"),
        elsewhere(items[0], "/nowhere.png"),
    ]
    others = {digest(change) for change in changes} | {digest(items[1], items[:1])}
    assert (len(same), len(others), len(same | others)) == (1, 7, 8)


def test_the_digest_of_a_trial_is_that_of_its_items(hold, items):
    """Whichever arms are asked."""
    assert hold(items).items_digest == hold(items, ARMS[:1]).items_digest == _fingerprint(items)


def test_a_stream_of_pictures_is_not_held(hold):
    """Of 240 pictures that come as bytes, most of them damaged, few are there at a time, none at last."""
    counted = counted_bytes()
    picture = (SAMPLES / "desk.png").read_bytes()

    def stream():
        for number in range(240):
            truth, whole = Truth("words", ("1",)), number % 4 == 0
            yield Item(
                f"i{number}",
                (ImageSource(f"p{number}", "", counted(picture if whole else b"torn")),),
                "how many?",
                truth,
            )

    trial = hold(stream(), ARMS[:1], new=1)
    gc.collect()
    assert (len(trial.rows), trial.failed) == (240, 180)
    assert counted.most < 90
    assert counted.alive == 0


def test_a_schedule_that_cannot_be_had_is_known_before_anything_is_asked(pocket, items):
    """The first item that can be read decides; the ones that can't be are left to the run."""
    impossible = arms_of(ArmsOptions(method="nuwa", ratio=0.1))
    with pytest.raises(BudgetError):
        checked(pocket, impossible, items)
    broken = [elsewhere(item, "/nowhere.png") for item in items]
    assert list(checked(pocket, impossible, broken)) == broken
    first, *others = checked(pocket, ARMS, iter(items))
    assert [first.without_data(), *others] == list(items)


def test_no_items_are_a_failure(pocket):
    """A benchmark that yields nothing gives a sentence."""
    with pytest.raises(Failure, match="no question"):
        checked(pocket, ARMS, iter(()))


def test_without_a_path_the_answers_are_gone_at_the_end():
    """They live in a folder that does not outlast the block."""
    with records_at(None) as file:
        assert file.path.exists()
    assert not file.path.parent.exists()
