"""Statistics: summaries of measured values, ratios of paired lists and shares, with confidence intervals.

A ratio's interval is a percentile bootstrap over pairs (scipy), seeded: the same values give the same one.
Fewer than six pairs have none: the range of five values misses a median one time in sixteen, so no resample
of them can reach 95%. A percentile stands on enough values for one of them to be expected above it: p90 on
10, p99 on 100. Outliers are counted and stay where they are. Knows numbers only; not metrics or reports.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Number = int | float

CONFIDENCE = 0.95
FEWEST_PAIRS = 6
RESAMPLES = 4000
FEWEST_VALUES = {"p90": 10, "p95": 20, "p99": 100}
OUTLYING = 3.5  # scaled MADs: the limit of Iglewicz and Hoaglin (1993, How to Detect and Handle Outliers)
SEED = 20260612
_Z = 1.959963984540054  # the normal distribution's 97.5% quantile
_MAD = 1.4826  # what makes a median absolute deviation the standard deviation of normal values
_BATCH = 2_000_000  # resampled values held at a time
_DRAWN = 200_000_000  # values drawn for one interval; more of them have fewer resamples, 1000 at least


@dataclass(frozen=True)
class Summary:
    """What a list of values comes to. std: of a sample (n - 1), None for one value."""

    n: int
    mean: float
    std: float | None
    min: Number
    max: Number
    p50: float
    p90: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Quotient:
    """A ratio and its confidence interval; low and high are None where `reason` says why there is none."""

    value: float
    low: float | None
    high: float | None
    reason: str = ""


@dataclass(frozen=True)
class Share:
    """A share of n with its 95% confidence interval."""

    value: float
    low: float
    high: float
    n: int


def summarise(values: Sequence[Number]) -> Summary:
    """Moments and percentiles (linear between neighbours) of at least one value."""
    numbers = np.asarray(values, dtype=np.float64)
    p50, p90, p95, p99 = (float(found) for found in np.percentile(numbers, (50, 90, 95, 99)))
    return Summary(
        n=len(values),
        mean=float(numbers.mean()),
        std=float(numbers.std(ddof=1)) if len(values) > 1 else None,
        min=min(values),
        max=max(values),
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99,
    )


def ratio_of_sums(part: Sequence[Number], whole: Sequence[Number]) -> Quotient | None:
    """The quotient of two totals that no repetition would change; None where the whole is nothing."""
    if not (total := sum(whole)):
        return None
    exact = sum(part) / total
    return Quotient(exact, exact, exact)


def outliers(groups: Sequence[Sequence[Number]], *, low: bool = False) -> int:
    """How many values are far above those of their group; with `low`, far below.

    Each value is taken as a multiple of its group's median, so that one group may be slower than another. Far
    is more than 3.5 scaled MADs (1.4826 × the median absolute deviation, of all groups together) beyond 1.
    A group whose median is not positive has none.
    """
    middles = [float(np.median(group)) for group in groups]
    shares = np.array(
        [
            value / middle
            for group, middle in zip(groups, middles, strict=True)
            if middle > 0
            for value in group
        ]
    )
    if not shares.size:
        return 0
    distances = (1 - shares) if low else (shares - 1)
    return int((distances > OUTLYING * _MAD * np.median(np.abs(distances))).sum())


def ratio_of_percentiles(
    part: Sequence[Sequence[Number]], whole: Sequence[Sequence[Number]], percent: float
) -> Quotient | None:
    """A percentile of all of part's values over that of all of whole's, with its interval over pairs of rows.

    part[i] and whole[i] belong together: as many values of the same item in the same round. Those of one row
    (the gaps of one answer) stay together in every resample, since they are not independent. None where the
    whole's percentile is nothing.
    """
    ours, theirs = (np.asarray(values, dtype=np.float64) for values in (part, whole))
    below = float(np.percentile(theirs, percent))
    if not below:
        return None
    value = float(np.percentile(ours, percent)) / below
    if len(ours) < FEWEST_PAIRS:
        return Quotient(value, None, None, f"an interval needs {FEWEST_PAIRS} pairs of values: {len(ours)}")
    if theirs.min() <= 0:
        return Quotient(value, None, None, "some of the dense values are zero: a resample may divide by it")
    from scipy.stats import bootstrap

    def quotient(places: Any, axis: int) -> Any:
        drawn = (values[places].reshape(*places.shape[:axis], -1) for values in (ours, theirs))
        one, other = (np.percentile(values, percent, axis=axis) for values in drawn)
        return one / other

    found = bootstrap(
        (np.arange(len(ours)),),
        quotient,
        vectorized=True,
        n_resamples=max(1000, min(RESAMPLES, _DRAWN // ours.size)),
        batch=max(1, _BATCH // ours.size),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return Quotient(value, float(found.low), float(found.high))


def ratio_of_medians(part: Sequence[Number], whole: Sequence[Number]) -> Quotient | None:
    """median(part) / median(whole) with its interval over pairs; None where the whole's median is nothing.

    part[i] and whole[i] belong together: the same item in the same round.
    """
    return ratio_of_percentiles([[one] for one in part], [[one] for one in whole], 50)


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
