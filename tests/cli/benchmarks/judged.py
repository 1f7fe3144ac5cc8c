"""Judged rows made by hand: what was asked, what is true, what one arm said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reroute_cli.data.items import Box, Truth
from reroute_cli.evaluation.score import Estimate, Pictures, Score
from reroute_cli.evaluation.trial import Row, Said
from reroute_cli.judges import judge


def row(
    image: str, truth: Truth, answer: str, *, name: str = "", group: str = "", boxes: Sequence[Box] = ()
) -> Row:
    """One question about a picture, and the verdict on what was said to it."""
    said = Said(answer, judge(answer, boxes, truth), None)
    return Row(name or image, image, "?", group, truth, (said,), (image,))


def value(score: Score, rows: Iterable[Row]) -> float | None:
    """The score of the only arm."""
    found = estimate(score, rows)
    return None if found is None else found.value


def estimate(score: Score, rows: Iterable[Row]) -> Estimate | None:
    """The score of the only arm with its interval."""
    return Pictures(list(rows)).estimate(score, 0)
