"""Whether an answer is right: boxes against a true box, words against a true answer, and how sure one can be.

Boxes are judged as stated in the README: the first box of the answer only, in pixels of the original picture.
Pure arithmetic; knows no model, no file and no benchmark.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from reroute_cli.data.items import Box

HIT = 0.5  # the IoU from which a box counts as found, as in RefCOCO (Acc@0.5)
_Z = 1.959963984540054  # the normal distribution's 97.5% quantile
_AROUND = " \t\r\n.,;:!?\"'`“”‘’()[]*"


@dataclass(frozen=True)
class BoxScore:
    """How well a box fits the true one. iou: 0 without a box. centre: its middle lies in the true one."""

    iou: float
    centre: bool

    @property
    def hit(self) -> bool:
        """IoU of at least 0.5."""
        return self.iou >= HIT


@dataclass(frozen=True)
class Share:
    """A share of n with its 95% interval."""

    value: float
    low: float
    high: float
    n: int


def score_box(boxes: Sequence[Box], truth: Box) -> BoxScore:
    """The first of `boxes` against the true one; none at all is a miss."""
    if not boxes:
        return BoxScore(0.0, centre=False)
    x1, y1, x2, y2 = boxes[0]
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return BoxScore(iou(boxes[0], truth), truth[0] <= x <= truth[2] and truth[1] <= y <= truth[3])


def iou(one: Box, other: Box) -> float:
    """Intersection over union of two boxes, 0 to 1; 0 where both are empty."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    both = max(wide, 0.0) * max(high, 0.0)
    union = _area(one) + _area(other) - both
    return both / union if union > 0 else 0.0


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def words(answer: str) -> str:
    """An answer as it is compared: lower case, single spaces, no punctuation or quotes around it."""
    return re.sub(r"\s+", " ", answer).strip(_AROUND).casefold()


def same_words(answer: str, truths: Sequence[str]) -> bool:
    """Whether an answer is one of the true ones, but for case, spaces and punctuation around it."""
    return words(answer) in {words(truth) for truth in truths}


def wilson(right: int, n: int) -> Share:
    """The share of `right` among n with Wilson's score interval; raises ValueError for no such share."""
    if not 0 <= right <= n or n == 0:
        raise ValueError(f"{right} of {n} is no share")
    return Share(right / n, *wilson_interval(right / n, n), n)


def wilson_interval(share: float, n: float) -> tuple[float, float]:
    """Wilson's 95% score interval of a share among n, which need not be whole."""
    spread = _Z * _Z / n
    middle = (share + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided McNemar p-value, from the items that only one of two arms answered right."""
    n, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(n, k) for k in range(fewer + 1))
    return float(min(1.0, 2 * tail / 2**n))
