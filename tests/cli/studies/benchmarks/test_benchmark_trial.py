"""A benchmark from end to end: a dataset's bytes through the embedded model to boxes and scores."""

import json
from pathlib import Path
from typing import Any

import pytest

from reroute_cli.console.options import ArmsOptions
from reroute_cli.data.items import Item, batch_items, samples_manifest
from reroute_cli.measure.scores import BOX_HIT, BOX_IOU, JudgedImages
from reroute_cli.models.load import Loaded
from reroute_cli.records.store import records_at
from reroute_cli.run.schedules import arms_of
from reroute_cli.run.trial import Trial, hold_trial
from reroute_cli.studies.benchmarks import load_benchmark
from reroute_cli.studies.benchmarks.benchmark import Wanted
from tests.cli.studies.benchmarks import hub_tables as hub

pytest.importorskip("datasets", reason="the extra eval")

HELD_OUT = samples_manifest().parent / "heldout"
QUESTIONS = 8


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    """Held-out questions for a box, in as many pictures as there are."""
    read = map(json.loads, (HELD_OUT / "manifest.jsonl").read_text().splitlines())
    found = {line["image"]: line for line in read if line.get("box")}
    return list(found.values())[:QUESTIONS]


@pytest.fixture(scope="module")
def refcoco(lines: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pictures, boxes and expressions as RefCOCO has them, and two rows that can't be asked."""
    rows = [
        {
            "question_id": line["id"],
            "image": {"bytes": (HELD_OUT / line["image"]).read_bytes(), "path": None},
            "answer": [line["question"]],
            "bbox": _as_corner_and_size(line["box"]),
            "file_name": line["image"],
        }
        for line in lines
    ]
    rows.insert(3, rows[0] | {"question_id": "damaged", "image": {"bytes": b"\x89PNG torn", "path": None}})
    rows.insert(5, rows[0] | {"question_id": "outside", "bbox": [5.0, 5.0, 4000.0, 9.0]})
    return hub.write_dataset(tmp_path_factory.mktemp("scenes"), hub.REFCOCO, {"val": rows})


def _as_corner_and_size(box: list[float]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def _trial(loaded: Loaded, items: Any, records: Path) -> Trial:
    arms = arms_of(ArmsOptions(method="pdrop", action="reroute", ratio=0.5))
    with records_at(records) as file:
        return hold_trial(loaded, arms, items, file, max_new_tokens=24, batch_size=4, done=lambda: None)


def test_a_dataset_gives_what_a_manifest_gives(
    pocket: Loaded,
    lines: list[dict[str, Any]],
    refcoco: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """The same bytes, question and box give the same answers and scores; broken rows are errors beside them.

    The embedded model was trained on one wording, so both sides ask in it: the expression alone.
    """
    monkeypatch.setattr(
        "reroute_cli.studies.benchmarks.refcoco.where_is", lambda expression, _family: expression
    )
    questions = load_benchmark("refcoco").load(Wanted("val", pocket.family, None, str(refcoco)))
    found = _trial(pocket, questions.items, tmp_path / "hub.jsonl")
    assert (questions.count, len(found.rows), found.failed) == (QUESTIONS + 2, QUESTIONS + 2, 4)
    errors = {row.id: row.said[0].error for row in found.rows if row.said[0].error}
    assert list(errors) == ["damaged/0", "outside/0"]
    assert "is not an image" in errors["damaged/0"] or "is damaged" in errors["damaged/0"]
    assert "reaches out of the image" in errors["outside/0"]

    expected = _trial(pocket, _asked_by_manifest(lines), tmp_path / "manifest.jsonl")
    whole = [row for row in found.rows if row.whole]
    assert [row.said for row in whole] == [row.said for row in expected.rows]
    for score in (BOX_HIT, BOX_IOU):
        for arm in (0, 1):
            assert JudgedImages(whole).estimate(score, arm) == JudgedImages(expected.rows).estimate(
                score, arm
            )
    assert JudgedImages(whole).estimate(BOX_IOU, 0).value > 0.5


def test_an_answered_dataset_is_not_asked_again(pocket: Loaded, refcoco: Path, tmp_path: Path):
    """A second trial on the same records takes every answer from them."""
    questions = load_benchmark("refcoco").load(Wanted("val", pocket.family, 4, str(refcoco)))
    first = _trial(pocket, questions.items, tmp_path / "kept.jsonl")
    again = _trial(pocket, questions.items, tmp_path / "kept.jsonl")
    assert first.counts.answered == again.counts.resumed > 0
    assert again.counts.answered == 0
    assert [row.said for row in again.rows] == [row.said for row in first.rows]


def _asked_by_manifest(lines: list[dict[str, Any]]) -> list[Item]:
    wanted = {line["id"] for line in lines}
    every = batch_items(None, None, HELD_OUT / "manifest.jsonl", None).chosen
    return [item for item in every if item.id in wanted]
