"""Summaries and intervals, against closed forms and known distributions."""

import statistics

import numpy as np
import pytest

from reroute_cli.measure.stats import FEWEST_PAIRS, ratio_of_medians, ratio_of_sums, summarise


def test_a_summary_is_the_textbook_one():
    """Of 1..101 in any order: mean and median 51, p90 91, p99 100, and the sample's deviation."""
    values = list(np.random.default_rng(0).permutation(np.arange(1, 102)))
    found = summarise([int(value) for value in values])
    assert (found.n, found.mean, found.min, found.max) == (101, 51, 1, 101)
    assert (found.p50, found.p90, found.p95, found.p99) == (51, 91, 96, 100)
    assert found.std == pytest.approx(statistics.stdev(range(1, 102)))


def test_percentiles_lie_between_neighbours():
    """Four values: the median is the mean of the middle two, p90 seven tenths of the way up the last step."""
    found = summarise([4.0, 1.0, 2.0, 3.0])
    assert found.p50 == 2.5
    assert found.p90 == pytest.approx(3.7)


def test_one_value_has_no_deviation():
    """One value is its own minimum, median and maximum; how it varies is unknown, not zero."""
    found = summarise([0.25])
    assert found.std is None
    assert found.min == found.p50 == found.p99 == found.max == 0.25


def test_whole_numbers_stay_whole():
    """FLOPs beyond what 32 bits hold come out as the integers that went in."""
    found = summarise([8_504_035_246_080, 8_504_035_246_080])
    assert found.max == 8_504_035_246_080
    assert isinstance(found.max, int)


def test_equal_pairs_give_an_interval_without_width():
    """Where every pair has the same ratio and every value is equal, so is each resample's."""
    found = ratio_of_medians([0.5] * 8, [2.0] * 8)
    assert (found.value, found.low, found.high) == (0.25, 0.25, 0.25)


def test_pairs_that_vary_together_give_a_narrow_interval():
    """A slow minute slows both arms: resampled in pairs, a constant ratio stays exact however times vary."""
    dense = list(np.random.default_rng(1).lognormal(size=31))
    found = ratio_of_medians([value * 0.5 for value in dense], dense)
    assert found.low == pytest.approx(0.5, rel=1e-12)
    assert found.high == pytest.approx(0.5, rel=1e-12)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Over 400 simulated runs of 30 noisy pairs with true ratio 0.6 it misses about one in twenty."""
    random = np.random.default_rng(7)
    covered = 0
    for _ in range(400):
        pace = random.lognormal(0, 0.2, 30)  # what both arms share
        dense, routed = (pace * random.lognormal(0, 0.1, 30) * scale for scale in (1.0, 0.6))
        found = ratio_of_medians(list(routed), list(dense))
        covered += found.low <= 0.6 <= found.high
    assert 0.92 <= covered / 400 <= 0.995


def test_the_same_values_give_the_same_interval():
    """The resampling is seeded."""
    random = np.random.default_rng(3)
    routed, dense = list(random.random(12) + 1), list(random.random(12) + 1)
    assert ratio_of_medians(routed, dense) == ratio_of_medians(routed, dense)


def test_too_few_pairs_have_a_value_and_no_interval():
    """Below six pairs the ratio stands alone, with the reason; at six there is an interval."""
    few = ratio_of_medians([1.0] * (FEWEST_PAIRS - 1), [2.0] * (FEWEST_PAIRS - 1))
    assert (few.value, few.low, few.high) == (0.5, None, None)
    assert "6 pairs" in few.reason
    enough = ratio_of_medians([1.0] * FEWEST_PAIRS, [2.0] * FEWEST_PAIRS)
    assert (enough.low, enough.reason) == (0.5, "")


def test_nothing_is_divided_by_zero():
    """A whole of zero has no ratio; zeros among the dense values leave it without an interval."""
    assert ratio_of_medians([1.0] * 8, [0.0] * 8) is None
    assert ratio_of_sums([1, 2], [0, 0]) is None
    some = ratio_of_medians([1.0] * 8, [0.0] + [2.0] * 7)
    assert (some.value, some.low) == (0.5, None)


def test_totals_are_divided_exactly():
    """Deterministic values: the quotient of the sums, its interval the same number."""
    found = ratio_of_sums([1, 2], [4, 4])
    assert (found.value, found.low, found.high) == (0.375, 0.375, 0.375)


def test_a_long_run_does_not_need_the_memory_of_all_its_resamples():
    """Ten thousand pairs: a few batches of resamples at a time, well below a gigabyte."""
    import tracemalloc

    values = list(np.random.default_rng(5).random(10_000) + 1)
    tracemalloc.start()
    ratio_of_medians(values, values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6
