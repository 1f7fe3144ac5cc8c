"""Statistics of measured values: a summary of one list, and the ratio of two paired lists with its interval.

The interval is a percentile bootstrap over pairs (scipy), seeded: the same values give the same interval.
Fewer than six pairs have none: the range of five values misses a median one time in sixteen, so no resample
of them can reach 95%. Knows numbers only; not metrics, arms or reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Number = int | float

CONFIDENCE = 0.95
FEWEST_PAIRS = 6
RESAMPLES = 4000
SEED = 20260612
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
    """A ratio and its interval; low and high are None where `reason` says why there is none."""

    value: float
    low: float | None
    high: float | None
    reason: str = ""


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
    return Quotient(value, *_interval(part, whole))


def _interval(part: Sequence[Number], whole: Sequence[Number]) -> tuple[float, float]:
    from scipy.stats import bootstrap

    found = bootstrap(
        (np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)),
        _median_ratio,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, _BATCH // len(part)),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return float(found.low), float(found.high)


def _median_ratio(part: np.ndarray, whole: np.ndarray, axis: int = -1) -> np.ndarray:
    ratio: np.ndarray = np.median(part, axis=axis) / np.median(whole, axis=axis)
    return ratio
