"""Judges: what each kind of question reads in an answer, on answers as models write them."""

import pytest

from reroute_cli.data.items import Truth
from reroute_cli.measure.judges import JUDGES, chosen_letter, final_answer, judge

OPTIONS = (("A", "a dog"), ("B", "A cat."), ("C", "two dogs"), ("D", "none of these"))


def _said(kind: str, answer: str, truth: str = "yes") -> tuple[str | None, bool]:
    verdict = judge(answer, [], Truth(kind, (truth,), options=OPTIONS))
    return verdict.said, verdict.right


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("yes", "yes"),
        ("Yes", "yes"),
        ("Yes.", "yes"),
        (" NO!\n", "no"),
        ('"no"', "no"),
        ("Yes, there is a dog in the image.", None),
        ("There is no dog.", None),
        ("yes no", None),
        ("y", None),
        ("", None),
        ("nothing", None),
    ],
)
def test_pope_reads_exactly_yes_or_no(answer: str, said: str | None):
    """The word alone counts, whatever its case and the punctuation around it; anything else is neither."""
    assert _said("yes_no", answer, "yes") == (said, said == "yes")
    assert _said("yes_no", answer, "no") == (said, said == "no")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("Yes", "yes"),
        ("yes, it is.", "yes"),
        ("No, there is not.", "no"),
        ("Not sure", "no"),
        ("None of them", "no"),
        (" \n Yes", "yes"),
        ("It is yes", None),
        ("The answer is no", None),
        ("y", None),
        ("", None),
    ],
)
def test_mme_reads_the_first_four_characters(answer: str, said: str | None):
    """As MME's own tool does: yes, else no, within the first four characters; anything else is neither."""
    assert _said("mme", answer, "yes") == (said, said == "yes")


@pytest.mark.parametrize(
    ("answer", "truth", "right"),
    [
        ("Woman", "woman", True),
        ("t-shirt.", "tshirt", True),
        ("the  woman", "the woman", True),
        ("a woman", "woman", False),
        ("women", "woman", False),
        ("", "woman", False),
    ],
)
def test_gqa_compares_without_case_and_punctuation(answer: str, truth: str, right: bool):
    """Exact match once case, punctuation and surplus spaces are gone; articles and plurals stay."""
    assert _said("exact", answer, truth)[1] is right


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("B.", "B"),
        ("(B)", "B"),
        ("[B]", "B"),
        ("**B**", "B"),
        ("**B.** A cat", "B"),
        ('"B"', "B"),
        ("B. A cat.", "B"),
        ("B: a cat", "B"),
        ("B) a cat", "B"),
        ("(B) a cat", "B"),
        ("B.\nBecause of its ears.", "B"),
        ("The answer is B", "B"),
        ("The answer is B.", "B"),
        ("The correct answer is (B) a cat.", "B"),
        ("Answer: B", "B"),
        ("answer: **B**", "B"),
        ("Option B", "B"),
        ("The answer is option B.", "B"),
        ("Option A is wrong. The answer is B.", "B"),
        ("two dogs", "C"),
        ("Two dogs.", "C"),
        ("a cat", "B"),
        ("A dog", "A"),
        ("E", None),
        ("E. a horse", None),
        ("A horse stands there", None),
        ("I. think", None),
        ("The answer is a dog and a cat", None),
        ("The answer is A. The answer is B.", None),
        ("The answer is A horse", None),
        ("A, B", None),
        ("A and B", None),
        ("dogs", None),
        ("", None),
        ("I do not know.", None),
    ],
)
def test_a_choice_is_read_by_rules(answer: str, letter: str | None):
    """A letter alone, in front or named as the answer, or an option's very text; what is unclear is none."""
    assert chosen_letter(answer, OPTIONS) == letter
    assert _said("choice", answer, "B") == (letter, letter == "B")


def test_options_of_equal_text_are_no_choice():
    """A text that two options share names neither of them."""
    assert chosen_letter("same", (("A", "same"), ("B", "same"))) is None


def test_words_are_said_as_they_were_compared():
    """The judge of words keeps what it compared, or nothing where nothing was said."""
    assert _said("words", " A Red cup. ", "a red cup") == ("a red cup", True)
    assert _said("words", "...", "a red cup") == (None, False)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("yes", "yes"),
        ("<think>Is it no? [1,2,3,4]</think>yes", "yes"),
        ("Is it no?</think>\n\nyes", "yes"),
        ("<think>no</think><answer>The answer is <|begin_of_box|>yes<|end_of_box|>.</answer>", "yes"),
        ("<think>no, [1,2,3,4], no", ""),
        ("<answer>yes</answer>", "yes"),
        ("It is <|begin_of_box|>[[1,2,3,4]]", "[[1,2,3,4]]"),
    ],
)
def test_thoughts_are_no_answer(text: str, answer: str):
    """What stands before </think> is not answered, and thoughts without an end answer nothing."""
    assert final_answer(text) == answer


def test_a_judge_does_not_hear_thoughts():
    """The verdict is on what comes behind the thoughts, whatever they say."""
    assert _said("yes_no", "<think>no</think> Yes.") == ("yes", True)


@pytest.mark.parametrize("kind", sorted(set(JUDGES) - {"box"}))
@pytest.mark.parametrize("answer", ["", "?", "\x1b[31m", "🤷", "[" * 5000, "(" * 5000 + "A", "\n" * 9999])
def test_no_answer_breaks_a_judge(kind: str, answer: str):
    """Whatever a model writes is right or wrong, at once."""
    assert _said(kind, answer, "B")[1] in (True, False)
