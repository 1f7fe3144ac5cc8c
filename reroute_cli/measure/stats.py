"""Statistics: summaries of measured values, ratios of paired lists and shares, with confidence intervals.

A ratio's interval is a percentile bootstrap over pairs (scipy), seeded: the same values give the same one.
Fewer than six pairs have none: the range of five values misses a median one time in sixteen, so no resample
of them can reach 95%. Knows numbers only; not metrics, arms or reports.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Number = int | float

CONFIDENCE = 0.95
FEWEST_PAIRS = 6
RESAMPLES = 4000
SEED = 20260612
_Z = 1.959963984540054  # the normal distribution's 97.5% quantile
_BATCH = 2_000_000  # resampled values held at a time


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


def ratio_of_medians(part: Sequence[Number], whole: Sequence[Number]) -> Quotient | None:
    """median(part) / median(whole) with its interval over pairs; None where the whole's median is nothing.

    part[i] and whole[i] belong together: the same item in the same round.
    """
    middle = float(np.median(whole))
    if not middle:
        return None
    value = float(np.median(part)) / middle
    if len(part) < FEWEST_PAIRS:
        return Quotient(value, None, None, f"an interval needs {FEWEST_PAIRS} pairs of values: {len(part)}")
    if min(whole) <= 0:
        return Quotient(value, None, None, "some of the dense values are zero: a resample may divide by it")
    from scipy.stats import bootstrap

    found = bootstrap(
        (np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)),
        lambda one, other, axis=-1: np.median(one, axis=axis) / np.median(other, axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, _BATCH // len(part)),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return Quotient(value, float(found.low), float(found.high))


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
