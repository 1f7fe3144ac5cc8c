"""Right and wrong, against numbers worked out by hand and by scipy's own tests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reroute_cli.data.items import Truth
from reroute_cli.measure.judges import iou, judge, score_box
from reroute_cli.measure.stats import mcnemar, wilson

TRUTH = (10.0, 10.0, 30.0, 20.0)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (TRUTH, 1.0),
        ((10.0, 10.0, 20.0, 20.0), 0.5),
        ((20.0, 10.0, 40.0, 20.0), 1 / 3),
        ((30.0, 10.0, 50.0, 20.0), 0.0),
        ((0.0, 0.0, 5.0, 5.0), 0.0),
        ((0.0, 0.0, 100.0, 100.0), 0.02),
    ],
)
def test_iou_is_intersection_over_union(box: tuple[float, ...], expected: float):
    """Overlaps whose areas can be counted by hand."""
    assert iou(box, TRUTH) == pytest.approx(expected)


def test_the_threshold_is_inside():
    """An IoU of exactly one half is a hit, as in RefCOCO's scorers."""
    assert score_box([(10.0, 10.0, 20.0, 20.0)], TRUTH).hit
    assert not score_box([(10.0, 10.0, 19.9, 20.0)], TRUTH).hit


def test_only_the_first_box_counts():
    """A right box behind a wrong one does not help."""
    score = score_box([(0.0, 0.0, 5.0, 5.0), TRUTH], TRUTH)
    assert (score.iou, score.centre) == (0.0, False)


def test_no_box_is_a_miss():
    """An answer without a box scores nothing."""
    assert score_box([], TRUTH).iou == 0.0


def test_a_centre_can_be_inside_without_a_hit():
    """The whole picture has its middle in the object and still does not find it."""
    score = score_box([(0.0, 5.0, 40.0, 25.0)], TRUTH)
    assert score.centre
    assert not score.hit


@pytest.mark.parametrize("answer", ["Yes", " yes.", '"YES!"', "yes\n"])
def test_case_and_punctuation_do_not_matter(answer: str):
    """What a person reads as the same word is the same word."""
    assert judge(answer, (), Truth("words", ("yes",))).right


@pytest.mark.parametrize("answer", ["", "yes, there is", "no", "yesterday"])
def test_other_words_are_wrong(answer: str):
    """An answer is compared as a whole."""
    assert not judge(answer, (), Truth("words", ("yes",))).right


def test_any_true_answer_will_do():
    """Several true answers are alternatives."""
    assert judge("Sofa", (), Truth("words", ("couch", "sofa"))).right


@given(n=st.integers(1, 400), data=st.data())
def test_wilson_is_that_of_scipy(n: int, data: st.DataObject):
    """The interval equals scipy's independent implementation."""
    right = data.draw(st.integers(0, n))
    expected = stats.binomtest(right, n).proportion_ci(method="wilson")
    share = wilson(right, n)
    assert (share.low, share.high) == (
        pytest.approx(expected.low, abs=1e-9),
        pytest.approx(expected.high, abs=1e-9),
    )


def test_a_share_of_nothing_is_refused():
    """No items, no share."""
    with pytest.raises(ValueError, match="0 of 0"):
        wilson(0, 0)


@given(first=st.integers(0, 60), second=st.integers(0, 60))
def test_mcnemar_is_the_exact_binomial_test(first: int, second: int):
    """The p-value equals scipy's two-sided binomial test at one half."""
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected)
