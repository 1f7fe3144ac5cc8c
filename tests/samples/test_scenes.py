"""The scene generator: what its labels claim is what the picture shows."""

import random
import re
from pathlib import Path

import numpy as np
import pytest

from samples.pocket_training.questions import Question, all_questions
from samples.pocket_training.scenes import (
    EXAMPLES,
    HELD_OUT,
    IMAGE_SIZE,
    TRAINING,
    FontMissingError,
    Painter,
    Scene,
    find_font,
    overlap,
)


def asked(painter: Painter, index: int) -> tuple[Scene, list[Question]]:
    """A scene and its questions."""
    scene = painter.paint(index)
    return scene, all_questions(scene, random.Random(index))


def test_a_seed_names_one_scene(painter: Painter) -> None:
    """Another painter paints the same pixels and things for the same index, and others for the next."""
    first, again = painter.paint(5), Painter(EXAMPLES).paint(5)
    assert np.array_equal(first.pixels, again.pixels)
    assert first.things == again.things
    assert not np.array_equal(first.pixels, painter.paint(6).pixels)


def test_splits_share_neither_seeds_nor_backgrounds() -> None:
    """A billion scenes of one split never reach the seeds of the next; background seeds differ."""
    assert abs(TRAINING.first_seed - HELD_OUT.first_seed) >= 1_000_000_000
    assert TRAINING.background_seed != HELD_OUT.background_seed


def test_boxes_hold_exactly_the_pixels_of_their_things(painter: Painter) -> None:
    """No pixel of a thing lies outside its box, and what is opaque of an uncovered thing nearly fills it."""
    for index in range(40):
        scene = painter.paint(index)
        for number, thing in enumerate(scene.things):
            rows, columns = np.nonzero(scene.owner == number)
            x1, y1, x2, y2 = thing.box
            seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert x1 <= seen[0] < seen[2] <= x2 <= IMAGE_SIZE
            assert y1 <= seen[1] < seen[3] <= y2 <= IMAGE_SIZE
            if not any(overlap(thing.box, other.box) for other in scene.things if other is not thing):
                assert np.abs(np.array(seen) - thing.box).max() <= 0.3 * thing.size  # steam is thin


def test_named_things_are_painted(painter: Painter) -> None:
    """A scene can be asked for by what is on it."""
    assert {thing.name for thing in painter.paint(0, ("cup", "car")).things} == {"cup", "car"}


def test_the_smaller_of_two_is_the_one_with_the_smaller_box(painter: Painter) -> None:
    """Every `smaller` answer has less area than the `larger` answer about the same name."""
    compared = 0
    for index in range(60):
        scene, questions = asked(painter, index)
        areas = {
            q.text: np.prod(np.diff(np.reshape(scene.things[q.targets[0]].box, (2, 2)), axis=0))
            for q in questions
            if q.kind == "size"
        }
        for text, area in areas.items():
            if "smaller" in text:
                compared += 1
                assert area < areas[text.replace("smaller", "larger")]
    assert compared > 5


def test_left_means_smaller_x(painter: Painter) -> None:
    """`the X left of the Y` and `what is left of the Y` point to things whose middle is left of Y's."""
    compared = 0
    for index in range(60):
        scene, questions = asked(painter, index)
        for question in questions:
            match = re.search(r"(left|right) of the (\w+)\?", question.text)
            if match:
                other = next(thing for thing in scene.things if thing.name == match[2])
                target = scene.things[question.targets[0]]
                assert (target.centre_x < other.centre_x) == (match[1] == "left")
                compared += 1
    assert compared > 20


def test_existence_is_answered_by_what_is_there(painter: Painter) -> None:
    """yes for names in the scene, no for the others."""
    for index in range(20):
        scene, questions = asked(painter, index)
        names = {thing.name for thing in scene.things}
        for question in (question for question in questions if question.kind == "exists"):
            name = re.fullmatch(r"is there an? (\w+) in the image\?", question.text)
            assert name
            assert (question.answer == "yes") == (name[1] in names)


def test_a_missing_font_is_named(tmp_path: Path) -> None:
    """The error says which file was not there."""
    with pytest.raises(FontMissingError, match=r"nothing\.ttf"):
        find_font(tmp_path / "nothing.ttf")
