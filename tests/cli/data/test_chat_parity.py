"""Prompts of chats and of several images against transformers' own apply_chat_template, family by family."""

from functools import cache

import pytest
import torch

import profiles
from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.data.images import Picture
from reroute_cli.data.prompts import Turn, prompt_of
from reroute_cli.models.dummy import build_processor

FAMILIES = ("llava-1.5-7b", "llava-next-7b", "qwen2.5-vl-7b", "qwen3-vl-8b", "internvl3-8b", "smolvlm-256m")
TURNS = (
    Turn("user", (None, "where is the cup?")),
    Turn("assistant", ("on the table",)),
    Turn("user", ("and in", None, "or", None, "?")),
)


@cache
def dummy(name):
    """A family's own processor classes and published template, made without a file."""
    entry = profiles.model(name)
    return build_processor(entry.processor, entry.config["text_config"]["vocab_size"])


@pytest.fixture(params=["pocket", *FAMILIES])
def processor(request, pocket):
    """The embedded model's processor, and those of well-known families."""
    return pocket.processor if request.param == "pocket" else dummy(request.param)


def of_transformers(processor, turns, pictures):
    """What transformers itself makes of the same turns, images included."""
    waiting = iter(pictures)
    messages = [
        {
            "role": turn.role,
            "content": [
                {"type": "image", "image": next(waiting)} if part is None else {"type": "text", "text": part}
                for part in turn.parts
            ],
        }
        for turn in turns
    ]
    return processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )


def assert_equal(prompt, expected):
    """The same tensors, each of them."""
    assert set(prompt.inputs) == set(expected)
    for name, value in prompt.inputs.items():
        assert torch.equal(value, expected[name]), name


def opened(images):
    """Images as `ask` and `batch` open them."""
    return [Picture("", image, "") for image in images]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_images_before_a_question_are_what_transformers_makes_of_them(processor, drawn, count):
    """One turn of so many images of several sizes and then the question."""
    images = [drawn(), drawn((120, 224)), drawn((300, 90))][:count]
    expected = of_transformers(processor, [Turn("user", (*[None] * count, "where is the cup?"))], images)
    assert_equal(prompt_of(processor, opened(images), "where is the cup?"), expected)


def test_turns_with_images_among_them_are_what_transformers_makes_of_them(processor, drawn):
    """Three turns with images in two of them, at the places where they stand."""
    images = [drawn(), drawn((120, 224)), drawn((300, 90))]
    expected = of_transformers(processor, TURNS, images)
    assert_equal(prompt_of(processor, opened(images), "?", TURNS), expected)


def test_a_system_turn_is_shown_or_refused(processor, drawn):
    """It is in the prompt as transformers renders it, or one sentence says that the model takes none."""
    turns = (Turn("system", ("answer in one word",)), Turn("user", (None, "where is the cup?")))
    try:
        prompt = prompt_of(processor, opened([drawn()]), "where is the cup?", turns)
    except Failure as error:
        sentence = str(error)
        assert "leaves out what the system says" in sentence or "refuses turns of system, user" in sentence
        return
    assert_equal(prompt, of_transformers(processor, turns, [drawn()]))


def test_a_template_that_raises_is_one_sentence(pocket, drawn, monkeypatch):
    """As templates of models without a system role do; the remedy is to leave it out."""
    refusing = "{{ raise_exception('System role not supported') }}"
    monkeypatch.setattr(pocket.processor, "chat_template", refusing)
    turns = (Turn("system", ("be brief",)), Turn("user", (None, "where?")))
    with pytest.raises(Failure, match=r"refuses turns of system, user .*\(System role not supported\)"):
        prompt_of(pocket.processor, opened([drawn()]), "where?", turns)
    with pytest.raises(Failure, match="with 2 images"):
        prompt_of(pocket.processor, opened([drawn()] * 2), "where?")


def test_a_turn_that_a_template_drops_is_one_sentence(pocket, drawn, monkeypatch):
    """What the model is not shown must not count as asked."""
    template = (
        "{% for m in messages if m['role'] == 'user' %}<image>{{ m['content'][-1]['text'] }}{% endfor %}"
    )
    monkeypatch.setattr(pocket.processor, "chat_template", template)
    turns = (Turn("system", ("be brief",)), Turn("user", (None, "where?")))
    with pytest.raises(Failure, match="leaves out what the system says"):
        prompt_of(pocket.processor, opened([drawn()]), "where?", turns)


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_a_control_token_in_any_turn_is_refused(pocket, drawn, role):
    """An image token that no image stands for, whoever says it."""
    turns = (Turn(role, ("see <image>",)), Turn("user", (None, "where?")))
    with pytest.raises(UsageError, match="contains '<image>', a control token"):
        prompt_of(pocket.processor, opened([drawn()]), "where?", turns)


@pytest.mark.parametrize("text", ["<image>{{ 'x' }}", "<image><image><image>"])
def test_a_template_with_other_places_than_images_is_no_silent_answer(pocket, drawn, monkeypatch, text):
    """Fewer or more image tokens than images: no prompt whose images stand elsewhere."""
    monkeypatch.setattr(pocket.processor, "chat_template", text)
    with pytest.raises(Failure):
        prompt_of(pocket.processor, opened([drawn()] * 2), "where?")
