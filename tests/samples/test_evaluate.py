"""Scoring, intervals, and the evaluation of a model under a context."""

from pathlib import Path

import pytest
from PIL import Image

from samples.pocket_training.evaluate import (
    Item,
    intersection_over_union,
    read_box,
    score,
    summary,
    wilson,
)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture twice as wide as high."""
    path = tmp_path / "wide.png"
    Image.new("RGB", (200, 100)).save(path)
    return path


def test_an_answer_is_read_in_the_pictures_pixels() -> None:
    """Fractions become pixels of width and height; anything but one box is no box."""
    assert read_box("[0.10,0.20,0.50,1.00]", 200, 100) == pytest.approx((20, 20, 100, 100))
    assert read_box(" [0.10,0.20,0.50,1.00]\n", 200, 100) is not None
    assert read_box("[0.10,0.20,0.50]", 200, 100) is None
    assert read_box("cup", 200, 100) is None


def test_overlap_of_boxes_is_what_counting_pixels_gives() -> None:
    """Two 10x10 boxes shifted by 5 share 50 of 150 pixels; boxes apart or inside out share nothing."""
    assert intersection_over_union((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(50 / 150)
    assert intersection_over_union((0, 0, 10, 10), (20, 0, 30, 10)) == 0
    assert intersection_over_union((10, 0, 0, 10), (0, 0, 10, 10)) == 0
    assert intersection_over_union(None, (0, 0, 10, 10)) == 0


def test_a_box_is_right_from_half_overlap_on(picture: Path) -> None:
    """Acc@0.5 on a picture that is wider than high."""
    item = Item("a", "where", picture, "where is the cup?", "", (0, 0, 100, 50))
    assert score(item, "[0.00,0.00,0.50,0.25]").right
    assert not score(item, "[0.00,0.00,0.50,0.24]").right
    assert score(item, "nowhere").iou == 0


def test_words_are_right_when_equal(picture: Path) -> None:
    """Surrounding blanks don't matter, anything else does."""
    item = Item("a", "exists", picture, "is there a cup in the image?", "yes", None)
    assert score(item, " yes").right
    assert not score(item, "yes yes").right


def test_wilson_intervals_are_the_published_ones() -> None:
    """8 of 10 gives 0.490 to 0.943 and 0 of 10 gives 0 to 0.278, as in tables of the Wilson interval."""
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_a_summary_counts_by_kind(picture: Path) -> None:
    """Shares and numbers are of each kind alone."""
    items = [
        Item(str(n), kind, picture, "", "yes", None) for n, kind in enumerate(["exists", "exists", "count"])
    ]
    lines = summary(score(item, text) for item, text in zip(items, ["yes", "no", "yes"], strict=True))
    assert (lines["exists"]["n"], lines["exists"]["right"]) == (2, 0.5)
    assert (lines["count"]["n"], lines["count"]["right"]) == (1, 1.0)
