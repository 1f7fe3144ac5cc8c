"""Scores and their intervals, against scipy, brute force and simulated worlds whose truth is known."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.sparse.csgraph import connected_components

from reroute_cli.measure import scores as scoring
from reroute_cli.measure.scores import (
    BOX_CENTRE,
    BOX_HIT,
    BOX_IOU,
    PLAIN,
    WORDS_RIGHT,
    JudgedImages,
    design_effect,
)
from reroute_cli.records.evaluation import DifferencePart
from reroute_cli.studies.questions import difference, scores_part, twin, whole
from tests.cli.judged import DENSE, arm, row, rows

ARMS = (DENSE, arm("pdrop", "prune"), arm("pdrop", "reroute"))


def ious(number, seed=3):
    """IoUs of two arms on one question of each picture."""
    made = np.random.default_rng(seed).uniform(0, 1, size=(number, 2))
    return [[tuple(float(x) for x in pair)] for pair in made]


def test_a_difference_has_scipys_interval():
    """With one question a picture it is the paired percentile bootstrap of scipy, but for noise."""
    table = ious(40)
    found = JudgedImages(rows(table)).difference(BOX_IOU, 1, 0)
    one, other = (np.array([picture[0][place] for picture in table]) for place in (1, 0))
    expected = stats.bootstrap(
        (one, other),
        lambda x, y, axis=-1: x.mean(axis=axis) - y.mean(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=40_000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert found.value == pytest.approx(one.mean() - other.mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.006)


def test_resampling_goes_by_picture():
    """On six pictures with unequal numbers of questions the interval is that of all 6^6 resamples."""
    table = [
        [(True, False), (True, True), (False, False)],
        [(True, False)],
        [(False, True), (True, True)],
        [(True, True)] * 4,
        [(True, False), (True, False)],
        [(False, False), (True, False), (True, True)],
    ]
    found = JudgedImages(rows(table)).difference(WORDS_RIGHT, 1, 0)
    sums = [(sum(b - a for a, b in picture), len(picture)) for picture in table]
    every = [
        sum(sums[i][0] for i in chosen) / sum(sums[i][1] for i in chosen)
        for chosen in itertools.product(range(6), repeat=6)
    ]
    assert found.value == pytest.approx(-4 / 15)
    assert (found.low, found.high) == pytest.approx(np.percentile(every, [2.5, 97.5]), abs=0.02)


def test_the_same_rows_give_the_same_interval():
    """Nothing of it is left to chance between two runs."""
    first, second = (JudgedImages(rows(ious(30))).difference(BOX_IOU, 1, 0) for _ in range(2))
    assert first == second


def test_one_question_a_picture_has_wilsons_interval():
    """Independent questions: scipy's own score interval, for any share."""
    for right in (0, 3, 17, 30):
        made = rows([[(place < right,)] for place in range(30)])
        found = JudgedImages(made).estimate(WORDS_RIGHT, 0)
        expected = stats.binomtest(right, 30).proportion_ci(method="wilson")
        assert (found.value, found.low, found.high) == pytest.approx(
            (right / 30, expected.low, expected.high)
        )
        assert found.effect == pytest.approx(1)


def test_questions_that_say_the_same_count_once():
    """Five questions about each picture, all right or all wrong: the interval is that of the pictures."""
    table = [[(place % 3 > 0,)] * 5 for place in range(30)]
    found = JudgedImages(rows(table)).estimate(WORDS_RIGHT, 0)
    expected = stats.binomtest(20, 30).proportion_ci(method="wilson")
    assert found.effect == pytest.approx(5, rel=0.03)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.005)


def test_the_design_effect_is_the_variance_of_resampled_pictures():
    """It is what a bootstrap over pictures finds, over the variance of independent questions."""
    luck = np.random.default_rng(5)
    number = luck.integers(1, 9, size=200)
    right = luck.binomial(number, luck.beta(2, 2, size=200))
    sums = np.stack([right, number], axis=1).astype(float)
    drawn = sums[luck.integers(200, size=(20_000, 200))].sum(axis=1)
    share = right.sum() / number.sum()
    expected = (drawn[:, 0] / drawn[:, 1]).var() / (share * (1 - share) / number.sum())
    assert design_effect(sums) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("kind", ["share", "difference"])
def test_an_interval_holds_the_truth_as_often_as_it_says(kind):
    """In 400 simulated runs over 60 pictures whose questions go together, about 95% of intervals cover."""
    luck, held, runs = np.random.default_rng(17), 0, 400
    for _ in range(runs):
        ease = luck.beta(4, 2, size=60)  # of each picture; the mean is 2/3
        table = [
            [(bool(luck.random() < p), bool(luck.random() < p * 0.7)) for _ in range(luck.integers(2, 7))]
            for p in ease
        ]
        pictures = JudgedImages(rows(table), resamples=400)
        found = (
            pictures.estimate(WORDS_RIGHT, 0) if kind == "share" else pictures.difference(WORDS_RIGHT, 1, 0)
        )
        truth = 2 / 3 if kind == "share" else -0.2
        held += found.low <= truth <= found.high
    assert 0.92 <= held / runs <= 0.98


def test_mcnemar_is_the_exact_test_on_what_only_one_has_right():
    """The counts by hand, the p-value by scipy's binomial test."""
    table = [[(True, False)]] * 9 + [[(False, True)]] * 2 + [[(True, True)]] * 5 + [[(False, False)]] * 3
    found = difference(JudgedImages(rows(table)), WORDS_RIGHT, ARMS, 1, 0)
    assert (found.only_this, found.only_base) == (2, 9)
    assert found.mcnemar_p == pytest.approx(stats.binomtest(2, 11).pvalue)
    assert found.value == pytest.approx(-7 / 19)


def test_mcnemar_counts_what_the_share_counts():
    """A box whose centre is inside but whose IoU is small is a hit of the one share and not of the other."""
    pictures = JudgedImages(rows([[(0.9, 0.3)]] * 8))
    assert pictures.only(BOX_HIT, 1, 0) == (0, 8)
    assert pictures.only(BOX_CENTRE, 1, 0) == (0, 0)


def test_a_score_is_of_its_own_questions_only():
    """Boxes count in no score of words, and words in none of boxes; n and pictures say how many there are."""
    mixed = rows([[(0.6, 0.4), (True, True)], [(0.7, 0.7)]] + [[(True, False)]] * 5)
    part = scores_part(whole(mixed), PLAIN, ARMS[:2], 1)
    assert (part.scores["box_acc_at_05"].n, part.scores["box_acc_at_05"].images) == (2, 2)
    assert (part.scores["words_right"].n, part.scores["words_right"].images) == (6, 6)
    assert part.scores["box_mean_iou"].value == pytest.approx(0.55)
    assert part.scores["words_right"].value == pytest.approx(1 / 6)
    only_words = scores_part(whole(rows([[(True, True)]] * 6)), PLAIN, ARMS[:2], 1)
    assert set(only_words.scores) == set(only_words.to_dense) == {"words_right"}


def test_a_row_that_one_arm_failed_counts_for_none():
    """Scores of every arm are over the same questions, those that all of them answered."""
    made = rows([[(True, None)], [(True, True)], [(False, True)]])
    pictures = whole(made)
    assert len(pictures.rows) == 2
    assert pictures.estimate(WORDS_RIGHT, 0).value == 0.5
    assert pictures.estimate(WORDS_RIGHT, 1).value == 1.0


def test_nothing_is_claimed_of_a_few_pictures():
    """Below six pictures a difference has a value, no interval, and the reason."""
    found = difference(JudgedImages(rows([[(True, False)]] * 5)), WORDS_RIGHT, ARMS, 1, 0)
    assert (found.value, found.low, found.high, found.is_real) == (-1.0, None, None, False)
    assert "6 images" in found.reasons["low"]


def test_equal_answers_are_no_proof_of_no_difference():
    """Where all pairs agree every resample is 0: an interval of no width would claim certainty."""
    found = difference(JudgedImages(rows([[(True, True)]] * 50)), WORDS_RIGHT, ARMS, 1, 0)
    assert (found.value, found.low, found.high) == (0.0, None, None)
    assert "same value" in found.reasons["low"]
    assert found.mcnemar_p == 1.0


def test_no_rows_make_no_scores():
    """Nothing was answered by all: no score, no difference, no NaN."""
    part = scores_part(whole([row("p", None, True)]), PLAIN, ARMS[:2], 1)
    assert (part.scores, part.to_dense, part.to_prune) == ({}, {}, {})


def test_no_value_is_ever_nan():
    """Whatever rows there are, every number of every part is finite or null."""
    luck = np.random.default_rng(2)
    for size in range(1, 9):
        marks = [[tuple(luck.choice([0.0, 0.5, 1.0], size=3).tolist())] for _ in range(size)]
        marks += [[tuple(bool(x) for x in luck.random(3) < 0.5)]] * (size % 2)
        for place in range(3):
            part = scores_part(whole(rows(marks)), PLAIN, ARMS, place)
            for found in (*part.scores.values(), *part.to_dense.values(), *part.to_prune.values()):
                numbers = (found.value, found.low, found.high)
                assert all(number is None or math.isfinite(number) for number in numbers)


def test_the_twin_prunes_the_same_way():
    """A rerouting arm is compared with the same method, layers and amount under prune, and with no other."""
    arms = (
        DENSE,
        arm("fastv", "prune"),
        arm("pdrop", "prune", 0.6),
        arm("pdrop", "prune"),
        arm("pdrop", "reroute"),
    )
    assert [twin(arms, place) for place in range(5)] == [None, None, None, None, 3]
    chosen = (DENSE, arm("fastv", "prune"), arm("fastv", "reroute", cuts=(3, 5)))
    assert twin(chosen, 2) is None


def test_reroute_minus_prune_is_the_difference_of_the_two():
    """Of three arms the twin's difference is that of the last two, not of either to dense."""
    table = [[(True, place % 2 == 0, place % 4 != 1)] for place in range(40)]
    part = scores_part(whole(rows(table)), PLAIN, ARMS, 2)
    assert part.to_prune["words_right"].value == pytest.approx(0.75 - 0.5)
    assert part.to_prune["words_right"].base == "pdrop-prune"
    assert part.to_dense["words_right"].value == pytest.approx(0.75 - 1.0)
    assert scores_part(whole(rows(table)), PLAIN, ARMS, 0).to_dense == {}


@pytest.mark.parametrize(
    ("low", "high", "real"), [(0.1, 0.2, True), (-0.2, -0.1, True), (-0.1, 0.1, False), (0.0, 0.2, False)]
)
def test_a_difference_is_real_when_its_interval_leaves_zero_out(low, high, real):
    """An end at 0 does not."""
    part = DifferencePart(
        base="dense", title="t", value=0.1, low=low, high=high, n=9, images=9,
        only_this=None, only_base=None, mcnemar_p=None,
    )  # fmt: skip
    assert part.is_real is real


def test_large_runs_are_resampled_in_parts(monkeypatch):
    """Drawing a few resamples at a time gives what drawing all at once gives."""
    table = ious(50)
    whole_at_once = JudgedImages(rows(table)).difference(BOX_IOU, 1, 0)
    monkeypatch.setattr(scoring, "_AT_ONCE", 700)
    assert JudgedImages(rows(table)).difference(BOX_IOU, 1, 0) == whole_at_once


def test_questions_that_share_a_later_image_are_not_independent():
    """Sixty first images, of which ten share a second one: the intervals are those of six pictures."""
    luck = np.random.default_rng(11).uniform(0, 1, size=(6, 2))
    made = [row(f"p{place}", *map(float, luck[place // 10])) for place in range(60)]
    shared = [replace(one, images=(one.image, f"s{place // 10}")) for place, one in enumerate(made)]
    alone = [replace(one, images=(f"s{place // 10}",)) for place, one in enumerate(made)]
    for score in (BOX_IOU, BOX_HIT):
        assert JudgedImages(shared).estimate(score, 0) == JudgedImages(alone).estimate(score, 0)
        assert JudgedImages(shared).difference(score, 1, 0) == JudgedImages(alone).difference(score, 1, 0)
        assert JudgedImages(shared).image_count(score) == 6


def test_images_connect_questions_through_others():
    """The groups are those of scipy's connected components, in the order of their first questions."""
    luck = np.random.default_rng(4)
    for _ in range(50):
        shown = [[str(image) for image in luck.integers(0, 25, size=luck.integers(1, 4))] for _ in range(20)]
        links = np.array([[bool(set(one) & set(other)) for other in shown] for one in shown])
        number, labels = connected_components(links, directed=False)
        expected = [[place for place in range(20) if labels[place] == label] for label in range(number)]
        found = scoring.connected(range(20), lambda place, shown=shown: shown[place])
        assert sorted(map(sorted, found)) == sorted(expected)
