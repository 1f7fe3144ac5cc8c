"""Judged rows made by hand, for tests of scores: no model, no picture."""

from __future__ import annotations

from collections.abc import Sequence

from reroute_cli.data.items import (
    Truth,
)
from reroute_cli.measure.judges import Judgement
from reroute_cli.measure.scores import JudgedAnswer, JudgedItem
from reroute_cli.run.schedules import Arm, ScheduleChoice

WORDS, BOX = Truth("words", ("yes",)), Truth("box", box=(0.0, 0.0, 10.0, 10.0))


def said(mark: bool | float | None) -> JudgedAnswer:
    """An answer in words that is right or not, a box with this IoU, or a failure."""
    if mark is None:
        return JudgedAnswer("", None, "it broke")
    if isinstance(mark, bool):
        return JudgedAnswer("yes" if mark else "no", Judgement(mark), None)
    return JudgedAnswer("[...]", Judgement(mark >= 0.5, mark, mark > 0.2), None)


def row(image: str, *marks: bool | float | None, group: str = "") -> JudgedItem:
    """A question about a picture, and what became of it under each arm."""
    boxed = any(isinstance(mark, float) for mark in marks)
    name = f"{image}/{marks}"
    truth, answers = BOX if boxed else WORDS, tuple(said(mark) for mark in marks)
    return JudgedItem(name, image, "?", group, truth, answers, (image,))


def rows(table: Sequence[Sequence[Sequence[bool | float | None]]]) -> list[JudgedItem]:
    """A list of pictures, each a list of questions, each with a mark for every arm."""
    return [row(f"p{place}", *marks) for place, picture in enumerate(table) for marks in picture]


DENSE = Arm("dense", ScheduleChoice())


def arm(method: str, action: str, ratio: float = 0.5, cuts: tuple[int, ...] | None = None) -> Arm:
    """A routed arm."""
    return Arm(f"{method}-{action}", ScheduleChoice(method, action, ratio, layers=cuts))
