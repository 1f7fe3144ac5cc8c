"""The scores that benchmarks are known by, against numbers counted by hand."""

import random

import pytest

from reroute_cli.data.items import Truth
from reroute_cli.measure.scores import JudgedImages, JudgedItem
from reroute_cli.studies.benchmarks import mmbench, mme, pope
from reroute_cli.studies.benchmarks.gqa import ACCURACY as GQA_ACCURACY
from tests.cli.studies.benchmarks.judged import estimate, row, value


def _polled(truth: str, answer: str, image: str = "a") -> JudgedItem:
    return row(image, Truth("yes_no", (truth,)), answer)


POLLED = [
    *[_polled("yes", "Yes")] * 6,
    *[_polled("yes", "No.")] * 2,
    *[_polled("yes", "I see none.")] * 2,
    *[_polled("no", "yes")] * 3,
    *[_polled("no", "no")] * 5,
    *[_polled("no", "Perhaps")] * 2,
]


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (pope.ACCURACY, 11 / 20),
        (pope.PRECISION, 6 / 9),
        (pope.RECALL, 6 / 10),
        (pope.F1, 2 * (6 / 9) * (6 / 10) / (6 / 9 + 6 / 10)),
        (pope.YES_RATIO, 9 / 20),
        (pope.NEITHER, 4 / 20),
    ],
    ids=lambda score: getattr(score, "name", ""),
)
def test_pope_counts_neither_as_wrong(score: pope.Score, expected: float):
    """6 yes of 10 found, 3 false ones, 4 answers that are neither word, of 20 questions."""
    assert value(score, POLLED) == pytest.approx(expected)


def test_pope_without_a_yes_has_no_precision():
    """What would divide by nothing is no number, and no warning."""
    silent = [_polled("no", "no"), _polled("no", "no")]
    assert value(pope.PRECISION, silent) is None
    assert value(pope.F1, silent) is None
    assert value(pope.ACCURACY, silent) == 1.0


def test_pope_scores_are_worked_out_from_sums_over_all_pictures():
    """F1 of everything is that of the pooled counts, not the mean over pictures."""
    spread = [_polled("yes", "yes", str(n)) if n % 3 else _polled("yes", "no", str(n)) for n in range(12)]
    assert value(pope.F1, spread) == pytest.approx(2 * 8 / (12 + 8))


def _pair(category: str, image: str, yes: str, no: str) -> list[JudgedItem]:
    return [
        row(f"{category}/{image}", Truth("mme", (truth,)), answer, group=category)
        for truth, answer in (("yes", yes), ("no", no))
    ]


def test_mme_adds_accuracy_and_accuracy_plus_of_each_category():
    """Per category 100 · (right / questions + both right / pictures), then the sum over categories."""
    rows = [one for category in mme.PERCEPTION for one in _pair(category, "0", "Yes", "No, it is not")]
    rows += _pair("count", "1", "Yes.", "Yes.")
    rows += [one for category in mme.COGNITION for one in _pair(category, "0", "Maybe", "No")]
    count = 100 * (3 / 4 + 1 / 2)
    assert value(mme.PERCEPTION_TOTAL, rows) == pytest.approx(9 * 200 + count)
    assert value(mme.COGNITION_TOTAL, rows) == pytest.approx(4 * 50)
    assert value(mme.ACCURACY, rows) == pytest.approx((20 + 1 + 4) / (22 + 8))
    assert value(mme.ACCURACY_PLUS, rows) == pytest.approx(10 / 15)


def test_mme_has_no_total_without_all_categories():
    """A sum that lacks a category would look like a worse model, so there is none."""
    rows = [one for category in mme.PERCEPTION[1:] for one in _pair(category, "0", "yes", "no")]
    assert value(mme.PERCEPTION_TOTAL, rows) is None
    assert value(mme.COGNITION_TOTAL, rows) is None
    assert value(mme.ACCURACY_PLUS, rows) == 1.0


def test_mme_counts_only_whole_pairs_for_accuracy_plus():
    """A picture with one question, or three, is in the accuracy alone."""
    rows = [*_pair("count", "0", "yes", "no"), *_pair("count", "1", "yes", "yes")[:1]]
    assert value(mme.ACCURACY, rows) == 1.0
    assert estimate(mme.ACCURACY_PLUS, rows).value == 1.0
    for odd in (rows[2:], [*rows[:2], _pair("count", "0", "no", "no")[0]]):
        assert mme.ACCURACY_PLUS.count([(one, one.said[0].verdict) for one in odd]) == (0.0, 0.0)


def _rotations(question: int, answers: str, *, options: int = 4, image: str = "") -> list[JudgedItem]:
    """A question whose right answer is A, B, C, D in turn, with these letters said."""
    texts = tuple((letter, f"text {letter}") for letter in "ABCD"[:options])
    return [
        row(
            image or str(question),
            Truth("choice", ("ABCD"[turn],), options=texts),
            said,
            name=str(question + turn * 1_000_000),
        )
        for turn, said in enumerate(answers)
    ]


def test_mmbench_circles_are_right_as_a_whole():
    """Of four questions one is right in every rotation; the accuracy counts each row."""
    rows = [
        *_rotations(1, "ABCD"),
        *_rotations(2, "ABCA"),
        *_rotations(3, "BA", options=2),
        *_rotations(4, "ABB", options=3),
    ]
    assert value(mmbench.CIRCULAR, rows) == pytest.approx(1 / 4)
    assert value(mmbench.ACCURACY, rows) == pytest.approx((4 + 3 + 0 + 2) / 13)


def test_mmbench_questions_about_one_picture_stay_apart():
    """Two questions that share a picture are two circles."""
    rows = [*_rotations(1, "AB", options=2, image="same"), *_rotations(2, "AA", options=2, image="same")]
    assert value(mmbench.CIRCULAR, rows) == pytest.approx(1 / 2)


def test_mmbench_without_all_rotations_has_no_circle():
    """Questions of which a rotation is missing are in the accuracy alone."""
    assert value(mmbench.CIRCULAR, _rotations(1, "ABC")) is None
    assert value(mmbench.CIRCULAR, [*_rotations(1, "ABC"), *_rotations(2, "ABCD")]) == 1.0
    assert value(mmbench.ACCURACY, _rotations(1, "ABC")) == 1.0


def test_gqa_is_the_share_of_exact_matches():
    """Two of three, whatever the case and punctuation."""
    said = {"Wood.": "wood", "t-shirt": "tshirt", "a wood": "wood"}
    rows = [row(answer, Truth("exact", (truth,)), answer) for answer, truth in said.items()]
    assert value(GQA_ACCURACY, rows) == pytest.approx(2 / 3)


def test_intervals_hold_their_values():
    """Every score of a benchmark has an interval around its value once there are pictures enough."""
    draw = random.Random(5)
    rows = [_polled(draw.choice(["yes", "no"]), draw.choice(["yes", "no"]), str(n // 3)) for n in range(90)]
    for score in pope.BENCHMARK.scores[:-1]:
        found = estimate(score, rows)
        assert found.low < found.value < found.high
    twice = [JudgedItem(one.id, one.image, "?", "", one.label, one.said * 2, one.images) for one in rows]
    assert JudgedImages(twice).difference(pope.F1, 1, 0).value == 0.0
