"""Scores over images, their confidence intervals, and the paired difference of two arms.

A score is a function of sums: every image contributes a few numbers, and the score is worked out from their
totals. So it can be resampled by image, which is what the intervals of differences do: questions about one
image are not independent of each other. Images that some question shows together count as one. All arms
and scores of one set of rows share the same resamples, so differences are paired. Percentile bootstrap,
seeded: the same rows give the same interval. The interval of a share is Wilson's, for as many questions as
all of them are worth (see `design_effect`). Knows judged rows and arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from reroute_cli.data.items import Box, Truth
from reroute_cli.measure.judges import Judgement
from reroute_cli.measure.stats import CONFIDENCE, FEWEST_PAIRS, RESAMPLES, SEED, wilson_interval

if TYPE_CHECKING:
    from reroute_cli.data.items import Box, Truth

Numbers: TypeAlias = NDArray[np.float64]
Thing = TypeVar("Thing")

FEWEST_PICTURES = FEWEST_PAIRS
_AT_ONCE = 4_000_000  # resampled images held as floats at a time
_NOTHING = 1e-12  # narrower than this, an interval is rounding


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """One arm's answer to one item. verdict: None where there is an error, which is one sentence.

    box: the first one in the answer, in pixels of the image, where it has any.
    """

    answer: str
    verdict: Judgement | None
    error: str | None
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class JudgedItem:
    """One item, and what each arm said to it, in the order of the arms. image: the first image's name.

    label: None where the item could not even be read. images: what each of its images is known by: the digest
    of its bytes, or its name where it can't be read.
    """

    id: str
    image: str
    question: str
    group: str
    label: Truth | None
    said: tuple[JudgedAnswer, ...]
    images: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether every arm has an answer: only such rows compare the arms."""
        return all(said.verdict is not None for said in self.said)


Judged: TypeAlias = tuple[JudgedItem, Judgement]


@dataclass(frozen=True)
class Score:
    """One number that tells how good the answers of an arm are; more is better unless it is `neutral`.

    of: whether the score is of this question at all (a box is no word).
    count: what one image's questions, those that it is of, add to the sums: always as many numbers.
    value: from sums (..., k) to scores (...); NaN where they are of nothing.
    share: the score is a share of its questions: each adds (0 or 1, 1), so McNemar's test applies to it.
    """

    name: str
    title: str
    of: Callable[[JudgedItem], bool]
    count: Callable[[Sequence[Judged]], tuple[float, ...]]
    value: Callable[[Numbers], Numbers]
    share: bool = False
    neutral: bool = False


@dataclass(frozen=True)
class Estimate:
    """A value and its 95% confidence interval; low and high are None where `reason` says why there is none.

    effect: the design effect that Wilson's interval allows for; None where the interval is a bootstrap.
    """

    value: float
    low: float | None
    high: float | None
    reason: str = ""
    effect: float | None = None


def connected(things: Iterable[Thing], images_of: Callable[[Thing], Sequence[str]]) -> list[list[Thing]]:
    """Things in groups that share no image, directly or through others, in the order of their first ones.

    images_of: by what a thing's images are known; one image at least.
    """
    groups: dict[str, list[Thing]] = {}  # called after the first image of its first thing
    called: dict[str, str] = {}  # an image -> the group that it is in
    for thing in things:
        images = images_of(thing)
        name = next((called[image] for image in images if image in called), images[0])
        for other in dict.fromkeys(called.get(image, name) for image in images):
            if other != name:
                moved = groups.pop(other)
                groups[name] += moved
                called |= dict.fromkeys((image for one in moved for image in images_of(one)), name)
        called |= dict.fromkeys(images, name)
        groups.setdefault(name, []).append(thing)
    return list(groups.values())


class JudgedImages:
    """Rows grouped by image, with the resamples that all scores and arms over them share.

    rows: only those in which every arm has a verdict. Those that share any image, directly or through others,
    are one group and count as one image.
    """

    def __init__(self, rows: Sequence[JudgedItem], resamples: int = RESAMPLES) -> None:
        self.rows = tuple(rows)
        self.groups = tuple(tuple(group) for group in connected(rows, lambda row: row.images))
        self._resamples = resamples

    def estimate(self, score: Score, arm: int) -> Estimate | None:
        """The score of an arm; None where there is nothing that it is a score of.

        A share has Wilson's interval, which says something at 0 and 1 as well; any other score a bootstrap.
        """
        if score.share and (n := self.questions(score)):
            sums = self._sums(score, arm)
            share, effect = float(sums[:, 0].sum()) / n, design_effect(sums)
            return Estimate(share, *wilson_interval(share, n / effect), effect=effect)
        return self._interval(score, score.value, [arm])

    def difference(self, score: Score, arm: int, base: int) -> Estimate | None:
        """The score of an arm minus that of another, over the same images in every resample."""

        def work(sums: Numbers) -> Numbers:
            one, other = np.split(sums, 2, axis=-1)
            return score.value(one) - score.value(other)

        return self._interval(score, work, [arm, base])

    def questions(self, score: Score) -> int:
        """How many questions the score is of."""
        return sum(score.of(row) for row in self.rows)

    def image_count(self, score: Score) -> int:
        """How many images those are about."""
        return sum(any(score.of(row) for row in group) for group in self.groups)

    def only(self, score: Score, arm: int, base: int) -> tuple[int, int]:
        """How many questions count for the one arm alone, and how many for the other alone, in a share."""
        asked = [row for row in self.rows if score.of(row)]
        pairs = [tuple(score.count(_judged(score, [row], one))[0] for one in (arm, base)) for row in asked]
        return sum(one > other for one, other in pairs), sum(other > one for one, other in pairs)

    def _sums(self, score: Score, arm: int) -> Numbers:
        """(images, k): what each image adds."""
        made = [score.count(_judged(score, group, arm)) for group in self.groups]
        return np.array(made, dtype=np.float64).reshape(len(self.groups), -1)

    def _interval(
        self, score: Score, work: Callable[[Numbers], Numbers], arms: Sequence[int]
    ) -> Estimate | None:
        if not self.groups:
            return None
        sums = np.concatenate([self._sums(score, arm) for arm in arms], axis=1)
        value = float(work(sums.sum(axis=0)))
        if np.isnan(value):
            return None
        if len(self.groups) < FEWEST_PICTURES:
            return Estimate(value, None, None, f"an interval needs {FEWEST_PICTURES} images or more")
        step = max(1, _AT_ONCE // len(self.groups))
        drawn = (self._drawn[start : start + step] for start in range(0, self._resamples, step))
        found = work(np.concatenate([part.astype(np.float64) @ sums for part in drawn]))
        tail = 100 * (1 - CONFIDENCE) / 2
        low, high = (float(end) for end in np.nanpercentile(found, [tail, 100 - tail]))
        if high - low < _NOTHING:
            return Estimate(value, None, None, "every resample of the images gives the same value")
        return Estimate(value, low, high)

    @cached_property
    def _drawn(self) -> NDArray[np.uint8]:
        """(resamples, images): how often each image is drawn; hardly ever more than ten times."""
        number = len(self.groups)
        draws = np.random.default_rng(SEED).integers(number, size=(self._resamples, number))
        counts = (np.bincount(row, minlength=number) for row in draws)
        return np.stack([np.minimum(count, 255).astype(np.uint8) for count in counts])


def design_effect(sums: Numbers) -> float:
    """How many times the variance of a share is that of as many independent questions; 1 at least.

    sums: (images, 2): right answers and questions of each. The variance is the linearised one of a ratio
    over images drawn with replacement. It can't be told where all or none are right, or of one image:
    it is 1 then.
    """
    right, questions = sums.sum(axis=0)
    share, pictures = right / questions, int((sums[:, 1] > 0).sum())
    alone = float(share * (1 - share) * questions) * questions / max(questions - 1, 1)
    if pictures < 2 or alone <= 0:
        return 1.0
    spread = float(((sums[:, 0] - share * sums[:, 1]) ** 2).sum())
    return float(max(1.0, pictures / (pictures - 1) * spread / alone))


def _judged(score: Score, group: Sequence[JudgedItem], arm: int) -> list[Judged]:
    verdicts = ((row, row.said[arm].verdict) for row in group if score.of(row))
    return [(row, verdict) for row, verdict in verdicts if verdict is not None]


def mean_of(
    name: str, title: str, of: Callable[[JudgedItem], bool], number: Callable[[Judgement], float]
) -> Score:
    """The mean of a number that each verdict has."""

    def count(judged: Sequence[Judged]) -> tuple[float, ...]:
        return sum(number(verdict) for _, verdict in judged), float(len(judged))

    return Score(name, title, of, count, quotient)


def is_right(verdict: Judgement) -> bool:
    """Whether the answer is right."""
    return verdict.right


def share_of(
    name: str,
    title: str,
    of: Callable[[JudgedItem], bool],
    hit: Callable[[Judgement], bool] = is_right,
    *,
    neutral: bool = False,
) -> Score:
    """The share of questions whose verdict is a hit: of right answers, where no other is named."""
    return replace(mean_of(name, title, of, hit), share=True, neutral=neutral)


def quotient(sums: Numbers) -> Numbers:
    """sums[..., 0] / sums[..., 1], NaN where that is nothing."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Numbers = sums[..., 0] / sums[..., 1]
        return found


def is_box(row: JudgedItem) -> bool:
    """Whether the question asks for a box."""
    return row.label is not None and row.label.kind == "box"


def is_words(row: JudgedItem) -> bool:
    """Whether the answer is judged by its words."""
    return not is_box(row)


BOX_HIT = share_of("box_acc_at_05", "box Acc@0.5", is_box)
BOX_IOU = mean_of("box_mean_iou", "box mean IoU", is_box, lambda verdict: verdict.iou or 0.0)
BOX_CENTRE = share_of("box_centre_inside", "box centre inside", is_box, lambda found: bool(found.centre))
WORDS_RIGHT = share_of("words_right", "answers right", is_words)

PLAIN = (BOX_HIT, BOX_IOU, BOX_CENTRE, WORDS_RIGHT)  # what any manifest with truths has scores of
