"""Judged rows made by hand: what was asked, what is true, what one arm said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reroute_cli.data.items import Box, Truth
from reroute_cli.measure.judges import judge
from reroute_cli.measure.scores import Estimate, JudgedAnswer, JudgedImages, JudgedItem, Score


def row(
    image: str, truth: Truth, answer: str, *, name: str = "", group: str = "", boxes: Sequence[Box] = ()
) -> JudgedItem:
    """One question about a picture, and the verdict on what was said to it."""
    said = JudgedAnswer(answer, judge(answer, boxes, truth), None)
    return JudgedItem(name or image, image, "?", group, truth, (said,), (image,))


def value(score: Score, rows: Iterable[JudgedItem]) -> float | None:
    """The score of the only arm."""
    found = estimate(score, rows)
    return None if found is None else found.value


def estimate(score: Score, rows: Iterable[JudgedItem]) -> Estimate | None:
    """The score of the only arm with its interval."""
    return JudgedImages(list(rows)).estimate(score, 0)
