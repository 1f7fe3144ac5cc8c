"""The pictures and manifests that ship with the project."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from samples.pocket_training.questions import BOX_KINDS, KINDS

SAMPLES = Path(__file__).parents[2] / "samples"
FOLDERS = [SAMPLES, SAMPLES / "heldout"]


def lines(folder: Path) -> list[dict[str, Any]]:
    """The entries of a manifest."""
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("folder", FOLDERS, ids=["samples", "heldout"])
def test_every_kind_of_question_is_asked(folder: Path) -> None:
    """A manifest asks every kind of question, and no id stands twice."""
    entries = lines(folder)
    assert {entry["kind"] for entry in entries} == set(KINDS)
    assert len({entry["id"] for entry in entries}) == len(entries)


@pytest.mark.parametrize("folder", FOLDERS, ids=["samples", "heldout"])
def test_boxes_lie_inside_their_pictures(folder: Path) -> None:
    """A box stands exactly where a box is asked for, has an area, and ends within its picture."""
    sizes = {name: Image.open(folder / name).size for name in {entry["image"] for entry in lines(folder)}}
    for entry in lines(folder):
        assert (entry["box"] is not None) == (entry["kind"] in BOX_KINDS)
        if entry["box"]:
            x1, y1, x2, y2 = entry["box"]
            width, height = sizes[entry["image"]]
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height


@pytest.mark.parametrize("folder", FOLDERS, ids=["samples", "heldout"])
def test_answers_say_the_box_as_fractions_of_the_picture(folder: Path) -> None:
    """The written answer and the pixel box are the same place, to half a hundredth."""
    for entry in (entry for entry in lines(folder) if entry["box"]):
        said = json.loads(entry["answer"])
        side = Image.open(folder / entry["image"]).width
        assert said == pytest.approx([value / side for value in entry["box"]], abs=0.00501)


@pytest.mark.parametrize(("folder", "pictures"), [(SAMPLES, 12), (SAMPLES / "heldout", 500)])
def test_there_are_enough_pictures(folder: Path, pictures: int) -> None:
    """At least 12 samples and 500 held-out scenes; every picture is there and is asked about."""
    asked = {entry["image"] for entry in lines(folder)}
    there = {path.name for path in folder.iterdir() if path.suffix in {".png", ".webp"}}
    assert asked == there
    assert len(asked) >= pictures


def test_yes_and_no_are_equally_frequent_in_the_held_out_set() -> None:
    """Always saying yes is worth one half."""
    answers = [entry["answer"] for entry in lines(SAMPLES / "heldout") if entry["kind"] == "exists"]
    assert answers.count("yes") == answers.count("no") == len(answers) / 2


def test_the_held_out_set_is_small() -> None:
    """The whole folder stays under 10 MB."""
    assert sum(path.stat().st_size for path in (SAMPLES / "heldout").iterdir()) < 10_000_000


def test_every_photograph_has_a_licence_and_is_small() -> None:
    """PHOTOS.md names each photograph, with a licence in its row, and each is under 150 kB."""
    rows = [row for row in (SAMPLES / "PHOTOS.md").read_text("utf-8").splitlines() if row.startswith("| `")]
    photos = sorted((SAMPLES / "photos").iterdir())
    assert len(rows) == len(photos) >= 3
    for photo in photos:
        row = next(row for row in rows if f"photos/{photo.name}" in row)
        assert "CC0" in row or "public domain" in row
        assert photo.stat().st_size < 150_000
