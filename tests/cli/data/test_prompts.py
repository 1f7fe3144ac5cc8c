"""Questions as text: what is refused, and that nothing a user types becomes a control token."""

from types import SimpleNamespace

import pytest

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.data.images import open_image
from reroute_cli.data.prompts import (
    MAX_QUESTION,
    build_prompt,
    check_question,
    control_tokens,
    render_template,
)


@pytest.mark.parametrize(
    ("question", "word"),
    [("", "empty"), (" \t\n", "empty"), ("x" * (MAX_QUESTION + 1), str(MAX_QUESTION)), ("\udcff", "UTF-8")],
)
def test_what_is_no_question_is_refused(question, word):
    """Empty, enormous and undecodable questions are refused, with what is allowed."""
    with pytest.raises(UsageError, match=word):
        check_question(question)


@pytest.mark.parametrize(
    "question", ["x" * MAX_QUESTION, "wo ist die Tasse? 杯子在哪里", "[red]x[/red] \x1b[31m"]
)
def test_any_other_text_is_a_question(question):
    """Long, foreign and odd text is asked as it is."""
    assert check_question(question) is None


@pytest.mark.parametrize("token", ["<image>", "</s>", "<s>", "USER:", "ASSISTANT:", "<pad>"])
def test_control_tokens_in_a_question_are_refused(pocket, picture, token):
    """A question can't smuggle in an image, an end of text or a turn of the conversation."""
    with pytest.raises(UsageError, match="control token"):
        build_prompt(pocket.processor, [open_image(picture)], f"where {token} is the cup?")


def test_control_tokens_hold_the_image_token_and_the_end(pocket):
    """The list comes from the tokenizer itself."""
    assert {"<image>", "</s>", "ASSISTANT:"} <= control_tokens(pocket.processor)


def test_pictures_stand_before_the_question_in_their_order(pocket):
    """The template gets one placeholder a picture, then the words, then the model's turn."""
    text = render_template(pocket.processor, "which?", 3)
    assert text.count("<image>") == 3
    assert text.rindex("<image>") < text.index("which?") < text.index("ASSISTANT:")


def test_jinja_in_a_question_is_text(pocket):
    """A question is data for the template, never part of it."""
    assert "{{ 7 * 7 }}" in render_template(pocket.processor, "{{ 7 * 7 }}", 1)


def test_a_model_without_a_template_still_gets_its_pictures():
    """Models such as PaliGemma have no chat template: placeholders, then the question."""

    class Bare:
        chat_template = None
        image_token = "<image>"

    assert render_template(Bare(), "answer en what?", 2) == "<image><image>answer en what?"


def test_visual_tokens_are_counted_from_the_ids(pocket, picture):
    """Two pictures of the embedded model are twice its 256 visual tokens."""
    prompt = build_prompt(pocket.processor, [open_image(picture)] * 2, "where is the cup?")
    assert prompt.count(pocket.image_token_ids) == 512
    assert prompt.tokens == prompt.inputs["input_ids"].shape[1] > 512


def test_what_a_processor_refuses_is_one_sentence(picture):
    """A processor's ValueError names the pictures' sizes and the reason."""

    class Picky:
        chat_template = None
        tokenizer = SimpleNamespace(added_tokens_decoder={}, all_special_tokens=[])

        def __call__(self, **_):
            raise ValueError("absolute aspect ratio must be smaller than 200")

    with pytest.raises(Failure, match=r"224 × 224.*aspect ratio"):
        build_prompt(Picky(), [open_image(picture)], "what?")


def test_a_template_that_fails_is_one_sentence():
    """A chat template is a program of the model's: what it raises is a known failure."""

    def fail(*_args, **_kwargs):
        raise RuntimeError("only one system message")

    processor = SimpleNamespace(chat_template="x", apply_chat_template=fail)
    with pytest.raises(Failure, match="only one system message"):
        render_template(processor, "what?", 1)
