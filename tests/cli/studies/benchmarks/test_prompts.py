"""The words in which benchmarks are asked, family by family."""

import pytest

from reroute_cli.console.errors import UsageError
from reroute_cli.measure.judges import convention_of
from reroute_cli.studies.benchmarks.benchmark import LETTER, SHORT, check_grounding, short_answer, where_is
from routing import FAMILIES
from routing.families.family import Grounding


@pytest.mark.parametrize(
    ("family", "question"),
    [
        (
            "llava",
            "Please provide the bounding box coordinate of the region this sentence describes: the red {cup}",
        ),
        (
            "qwen2_5_vl",
            "Locate the red {cup} in this image and output the bbox coordinates in JSON format.",
        ),
        (
            "qwen3_vl",
            'Locate every object that matches the description "the red {cup}" in the image. '
            "Report bbox coordinates in JSON format.",
        ),
        ("glm4v", "Help me to locate the red {cup} in the image and give me its bounding boxes."),
        ("paligemma", "detect the red {cup}"),
    ],
)
def test_each_family_is_asked_in_its_own_words(family: str, question: str):
    """The published prompt with the expression in it, braces and all."""
    assert where_is("the red {cup}", family) == question


@pytest.mark.parametrize("family", FAMILIES)
def test_whoever_writes_boxes_can_be_asked_for_one(family: str):
    """A family is asked for boxes exactly if it writes them; the refusal names those that do."""
    if isinstance(FAMILIES[family].grounding, Grounding):
        check_grounding(family)
        assert "the cup" in where_is("the cup", family)
        assert convention_of(family) is not None
        return
    with pytest.raises(UsageError, match=f"{family} models are not read .*no published way .* qwen2_5_vl"):
        check_grounding(family)
    assert convention_of(family) is None


def test_short_answers_are_asked_for_in_the_known_words():
    """The suffix that POPE, GQA and MME are known by; PaliGemma knows tasks instead."""
    assert short_answer("Is it red?", "llava") == f"Is it red?\n{SHORT}"
    assert short_answer("Is it red?", "paligemma") == "answer en Is it red?"
    assert SHORT == "Answer the question using a single word or phrase."
    assert LETTER == "Answer with the option's letter from the given choices directly."
