"""What is true of an item, and whether a record's answer says so: one judge for each kind of truth.

A truth has a kind; JUDGES says how that kind is judged. Knows answers as text and boxes as numbers; not
models, benchmarks, pictures or files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reroute_cli.boxes import Box
from reroute_cli.scores import same_words, score_box


@dataclass(frozen=True, slots=True)
class Truth:
    """What a right answer is. kind: a key of JUDGES.

    answers: every wording that is right, for kinds that are judged by words. box: x1, y1, x2, y2 in pixels,
    picture upright, for kind "box".
    """

    kind: str
    answers: tuple[str, ...] = ()
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """One judged answer. iou, centre: of boxes only. said: what a judge of words read in it, if anything."""

    right: bool
    iou: float | None = None
    centre: bool | None = None
    said: str | None = None


Judge = Callable[[str, Sequence[Box], Truth], Verdict]


def judge(answer: str, boxes: Sequence[Box], truth: Truth) -> Verdict:
    """Whether an answer, with the boxes that were decoded from it, is right."""
    return JUDGES[truth.kind](answer, boxes, truth)


def _box(_answer: str, boxes: Sequence[Box], truth: Truth) -> Verdict:
    """The first box only: IoU of at least 0.5 is right."""
    assert truth.box is not None
    found = score_box(boxes, truth.box)
    return Verdict(found.hit, found.iou, found.centre)


def _words(answer: str, _boxes: Sequence[Box], truth: Truth) -> Verdict:
    """Equal to one of the true wordings but for case, spaces and punctuation around it."""
    return Verdict(same_words(answer, truth.answers))


JUDGES: dict[str, Judge] = {
    "box": _box,
    "words": _words,
}
