"""Summaries and intervals, against closed forms and known distributions."""

import statistics

import numpy as np
import pytest

from reroute_cli.measure.stats import (
    FEWEST_PAIRS,
    outliers,
    ratio_of_medians,
    ratio_of_percentiles,
    ratio_of_sums,
    summarise,
)


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


def test_outliers_are_those_of_the_textbook():
    """Median 5, MAD 2, so that the limit is 5 + 3.5 × 1.4826 × 2 = 15.4: 50 is above it, 15 is not."""
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 50.0]
    mad = statistics.median(abs(value - 5) for value in values)
    expected = sum(value > 5 + 3.5 * 1.4826 * mad for value in values)
    assert outliers([values]) == expected == 1
    assert outliers([[*values[:-1], 15.0]]) == 0


def test_a_slow_item_is_no_outlier():
    """Each value is held against its own item: an item that is ten times as slow throughout has none."""
    steady = [1.0, 1.01, 0.99, 1.02, 0.98]
    assert outliers([steady, [10 * value for value in steady]]) == 0
    assert outliers([steady, [*(10 * value for value in steady[:4]), 30.0]]) == 1


def test_of_a_rate_what_is_low_is_far_off():
    """The bad side of what is better when bigger is below; a far higher value is none."""
    assert outliers([[10.0, 11.0, 9.0, 10.5, 9.5, 1.0]], low=True) == 1
    assert outliers([[10.0, 11.0, 9.0, 10.5, 9.5, 90.0]], low=True) == 0


def test_values_around_nothing_have_no_outliers():
    """A group whose median is 0 has no scale to be far by, and equal values are not far from themselves."""
    assert outliers([[0.0, 0.0, 5.0]]) == 0
    assert outliers([[2.0, 2.0, 2.0]]) == 0


def test_a_ratio_of_percentiles_is_that_of_all_values_pooled():
    """Rows are the gaps of answers: the ratio of p90 is that of the flat lists, inside of its interval."""
    random = np.random.default_rng(2)
    dense = random.lognormal(size=(12, 15))
    routed = dense * 0.5
    routed[3] *= 4
    found = ratio_of_percentiles(routed.tolist(), dense.tolist(), 90)
    assert found.value == pytest.approx(np.percentile(routed.ravel(), 90) / np.percentile(dense.ravel(), 90))
    assert found.low <= found.value <= found.high


def test_gaps_of_one_answer_stay_together():
    """Twelve answers of fifteen gaps each, slow or fast as a whole: the interval is as wide as that of twelve
    values, not as narrow as that of 180."""
    random = np.random.default_rng(4)
    paces = random.lognormal(0, 0.5, 12)
    rows = [[float(pace)] * 15 for pace in paces]
    ones = [[1.0] * 15] * 12
    wide = ratio_of_percentiles(rows, ones, 50)
    single = ratio_of_medians([float(pace) for pace in paces], [1.0] * 12)
    assert (wide.low, wide.high) == pytest.approx((single.low, single.high), rel=0.1)
    assert wide.high - wide.low > 0.1


def test_answers_are_counted_for_an_interval_and_not_their_gaps():
    """Five answers of a hundred gaps each are five pairs: no interval."""
    found = ratio_of_percentiles([[1.0] * 100] * 5, [[2.0] * 100] * 5, 99)
    assert (found.value, found.low) == (0.5, None)
    assert "6 pairs" in found.reason
