"""How often a run opens its image files: counted by the interpreter's own audit of every open()."""

import gc
import json
import os
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from reroute_cli.data import images
from reroute_cli.data.items import batch_items
from reroute_cli.run import prepare
from reroute_cli.run.prepare import Waiting, make_request
from reroute_cli.run.schedules import ScheduleChoice
from reroute_cli.studies.tune import session
from tests.cli.counted import counted_bytes

_counting: list[Counter[str]] = []


def _audit(event, arguments):
    if event == "open" and _counting and isinstance(arguments[0], str | os.PathLike):
        _counting[-1][os.path.realpath(arguments[0])] += 1


sys.addaudithook(_audit)


@contextmanager
def opens():
    """A counter of what is opened in the block, by its real path."""
    _counting.append(Counter())
    try:
        yield _counting[-1]
    finally:
        _counting.pop()


@pytest.fixture
def manifest(tmp_path, drawn):
    """Nine questions: a.png in three of them, two images in one, one image as a data URI, one damaged."""
    for place, name in enumerate("abcdef"):
        drawn((120 + place, 120)).save(tmp_path / f"{name}.png")
    (tmp_path / "torn.png").write_bytes(b"no image")
    uri = "data:image/gif;base64,R0lGODlhAQABAIAAAAUEBAAAACwAAAAAAQABAAACAkQBADs="
    shown = [["a.png"], ["b.png"], ["a.png"], ["c.png", "a.png"], ["d.png"], ["e.png"], ["f.png"], [uri]]
    lines = [{"images": names, "question": f"what is it? {place}"} for place, names in enumerate(shown)]
    lines.append({"images": ["torn.png"], "question": "and this?"})
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(line | {"answer": "no"}) + "\n" for line in lines))
    return path


def _reads(counted, folder):
    """Opens of each image of the folder, by its name."""
    return {path.name: counted[str(path)] for path in sorted(Path(folder).resolve().glob("*.png"))}


ONCE_A_QUESTION = {"a.png": 3, **dict.fromkeys(["b.png", "c.png", "d.png", "e.png", "f.png"], 1)}


def _evaluated(run, manifest, *more):
    result = run("eval", "--manifest", str(manifest), "--max-new-tokens", "1", "--quiet", "--json", *more)
    assert result.exit_code == 4, result.output  # the damaged one
    return json.loads(result.stdout)


@pytest.mark.usefixtures("warm")
def test_an_evaluation_reads_each_image_once_a_question(run, manifest):
    """Digest, fingerprint, first look and decoding share one read, whatever the number of schedules."""
    schedules = ("--arms", "fastv:prune", "--ratio", "0.5")
    with opens() as counted:
        report = _evaluated(run, manifest, *schedules)
    found = _reads(counted, manifest.parent)
    assert found.pop("torn.png") <= 2  # it may be the first one that is looked at
    assert found == ONCE_A_QUESTION
    assert [item["said"]["dense"]["error"] is None for item in report["items"]] == [True] * 8 + [False]


@pytest.mark.usefixtures("warm")
def test_little_memory_costs_reads_and_changes_nothing(run, manifest, monkeypatch):
    """Without room for bytes each file is read again to be decoded; answers and digests are the same."""
    kept = _evaluated(run, manifest)
    monkeypatch.setattr(prepare, "MOST_HELD", 0)
    with opens() as counted:
        reread = _evaluated(run, manifest)
    assert all(
        count <= 2 * ONCE_A_QUESTION.get(name, 1) for name, count in _reads(counted, manifest.parent).items()
    )
    assert reread["items"] == kept["items"]
    assert reread["workload"] == kept["workload"]


@pytest.mark.usefixtures("warm")
def test_answers_that_are_there_cost_one_read_at_most(run, manifest):
    """A run that finds all its answers digests the files, and decodes none but the first."""
    records = ("--records", str(manifest.parent / "r.jsonl"))
    _evaluated(run, manifest, *records)
    with opens() as counted:
        _evaluated(run, manifest, *records)
    found = _reads(counted, manifest.parent)
    assert all(found[name] <= most for name, most in ONCE_A_QUESTION.items())


@pytest.mark.usefixtures("warm")
def test_a_sweep_reads_each_image_once_a_question_and_measured_ones_twice_more(run, manifest):
    """Those whose costs are measured are looked at before, to know which schedules there are."""
    common = ("--arms", "fastv:prune", "--ratios", "0.5", "--cost-items", "1")
    more = ("--repeat", "1", "--warmup", "0", "--max-new-tokens", "1", "--quiet", "--json")
    with opens() as counted:
        result = run("sweep", "--manifest", str(manifest), *common, *more)
    assert result.exit_code in (0, 4), result.output
    found = _reads(counted, manifest.parent)
    assert found == ONCE_A_QUESTION | {"a.png": 5, "torn.png": 1}


def test_the_bytes_that_wait_for_the_decoder_are_bounded(pocket, tmp_path, drawn, monkeypatch):
    """Of forty files at most five wait, besides those that six threads have in hand; none is left at last."""
    counted = counted_bytes()
    for place in range(40):
        drawn((100, 100)).save(tmp_path / f"{place:02}.png")
    monkeypatch.setattr(prepare, "MOST_HELD", 5 * (tmp_path / "00.png").stat().st_size)
    read = images.read_bytes
    monkeypatch.setattr(images, "read_bytes", lambda path: counted(read(path)))
    items = batch_items(tmp_path, "what is it?", None, None).chosen
    request = make_request(pocket, [ScheduleChoice()], 1, 8)
    made = list(prepare.prepared_items(request, items, lambda key: False, Waiting()))
    assert [entry.keyed.item for entry in made] == list(items)
    assert {entry.keyed.held for entry in made} == {0}
    gc.collect()
    assert (counted.alive, counted.most > 1) == (0, True)
    assert counted.most <= 5 + 6


@pytest.mark.usefixtures("warm")
def test_a_search_reads_an_image_once_each_time_it_is_asked_about(run, monkeypatch):
    """And twice more: to tell the halves, and to know how many visual tokens questions have."""
    asked = Counter()
    hold = session.hold_trial

    def counting(loaded, arms, items, *rest, **options):
        asked.update(os.path.realpath(item.images[0].path) for item in items)
        return hold(loaded, arms, items, *rest, **options)

    monkeypatch.setattr(session, "hold_trial", counting)
    monkeypatch.setattr(images, "_remembered", {})
    with opens() as counted:
        result = run("tune", "--ratio", "0.6", "--limit", "24", "--answers", "100", "--methods", "fastv")
    assert result.exit_code == 0, result.output
    assert len(asked) >= 12
    assert {path: counted[path] for path in asked if counted[path] > asked[path] + 2} == {}
