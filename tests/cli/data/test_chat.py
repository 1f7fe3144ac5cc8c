"""Chat messages as prompts: order, pictures, and text that stays text."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFile
from transformers import AutoTokenizer

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.data.images import Picture, open_image
from reroute_cli.data.prompts import build_chat, build_prompt, picture, read_chat
from reroute_cli.models.processors import image_only

USER = {"role": "user"}


def text(words):
    """A text part."""
    return {"type": "text", "text": words}


def image(given):
    """A picture part."""
    return {"type": "image", "url": given}


@pytest.fixture
def qwen(tiny_qwen):
    """The processor of the tiny Qwen2.5-VL, whose template keeps pictures where they stand."""
    return image_only("Qwen2_5_VLProcessor").from_pretrained(tiny_qwen)


def build(processor, messages):
    """The prompt of these messages with their images, and whether a control token was spaced."""
    chat = read_chat(messages, "task")
    return build_chat(processor, chat, [picture(one, "it") for one in chat.images])


def ids(built):
    """The prompt's tokens."""
    prompt, _ = built
    return prompt.inputs["input_ids"][0].tolist()


@pytest.mark.parametrize("count", [1, 2])
def test_pictures_before_a_question_are_the_prompt_of_ask(pocket, drawn, count):
    """The same tokens and pixels as `ask` and `batch` give the model."""
    pictures = [drawn(), drawn((120, 224))][:count]
    asked = build_prompt(pocket.processor, [Picture("", one, "") for one in pictures], "where is the cup?")
    messages = [USER | {"content": [*map(image, pictures), text("where is the cup?")]}]
    built = build(pocket.processor, messages)
    prompt, escaped = built
    assert ids(built) == asked.inputs["input_ids"][0].tolist()
    assert prompt.inputs["pixel_values"].equal(asked.inputs["pixel_values"])
    assert not escaped


def test_pictures_stay_where_they_stand_in_the_text(qwen, drawn):
    """Text, a small picture, text, a larger one: the prompt has them in this order, each with its tokens."""
    small, large = drawn((56, 56)), drawn((112, 56))
    content = [text("where"), image(small), text("is the"), image(large), text("cup ?")]
    words = qwen.tokenizer.convert_ids_to_tokens(ids(build(qwen, [USER | {"content": content}])))
    start, end, pad = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"
    body = words[words.index("user") + 1 : words.index("<|im_end|>")]
    first, second = [start, *[pad] * 4, end], [start, *[pad] * 8, end]
    assert body == ["where", *first, "is", "the", *second, "cup", "?"]


def test_turns_and_roles_reach_the_template(qwen):
    """System, user and assistant turns are what the model's own template makes of them."""
    messages = [
        {"role": "system", "content": "the cup"},
        USER | {"content": [text("where")]},
        {"role": "assistant", "content": [text("is")]},
        USER | {"content": [text("the cup ?")]},
    ]
    parts = [message | {"content": [text(words)]} for message, words in zip(
        messages, ["the cup", "where", "is", "the cup ?"], strict=True
    )]  # fmt: skip
    expected = qwen.apply_chat_template(parts, add_generation_prompt=True, tokenize=False)
    assert ids(build(qwen, messages)) == qwen.tokenizer(expected)["input_ids"]


def test_a_model_without_a_template_gets_the_parts_in_order(pocket, drawn, monkeypatch):
    """Image tokens stand where the pictures are."""
    monkeypatch.setattr(pocket.processor, "chat_template", None)
    built = build(pocket.processor, [USER | {"content": [text("where"), image(drawn()), text("cup")]}])
    token = pocket.image_token_ids[0]
    places = [place for place, found in enumerate(ids(built)) if found == token]
    assert len(places) == 256
    assert places == list(range(places[0], places[0] + 256))
    before = pocket.processor.tokenizer.decode(ids(built)[: places[0]], skip_special_tokens=True)
    after = pocket.processor.tokenizer.decode(ids(built)[places[-1] + 1 :], skip_special_tokens=True)
    assert (before.strip(), after.strip()) == ("where", "cup")


def test_control_tokens_in_a_text_stay_text(pocket, drawn):
    """A text with image and end tokens gives the tokens of one with a space in them, and no more pictures."""
    question = "<image> what is </s> there? <image><image>"
    spaced = "< image> what is < /s> there? < image>< image>"
    built = build(pocket.processor, [USER | {"content": [image(drawn()), text(question)]}])
    prompt, escaped = built
    plain = build_prompt(pocket.processor, [Picture("", drawn(), "")], spaced)
    assert escaped
    assert ids(built) == plain.inputs["input_ids"][0].tolist()
    assert prompt.count(pocket.image_token_ids) == 256


@pytest.mark.parametrize("parts", [("<ima", "ge>"), ("</", "s>")])
def test_parts_that_join_to_a_control_token_are_refused(pocket, drawn, parts):
    """What is no token in any part and one in the prompt is found in the prompt."""
    content = [image(drawn()), *map(text, parts)]
    with pytest.raises(Failure, match="the parts of the question make a"):
        build(pocket.processor, [USER | {"content": content}])


def test_a_text_alone_is_a_prompt(pocket):
    """No picture, no visual tokens, no pixels."""
    built = build(pocket.processor, [USER | {"content": [text("is a cup a thing?")]}])
    prompt, _ = built
    assert prompt.count(pocket.image_token_ids) == 0
    assert "pixel_values" not in prompt.inputs
    tokenizer = AutoTokenizer.from_pretrained(pocket.processor.tokenizer.name_or_path)
    assert ids(built) == tokenizer("USER: \nis a cup a thing? ASSISTANT:")["input_ids"]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "CMYK", "I;16"])
def test_an_opened_picture_is_what_its_file_is(tmp_path, drawn, mode):
    """A Pillow image of any mode, turned by its EXIF, has the pixels that `batch` reads from the file."""
    source = drawn((60, 40)).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        source = Image.fromarray(np.asarray(source).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    source.save(file, "TIFF", exif=exif)
    seen = picture(Image.open(io.BytesIO(file.getvalue())), "it")
    expected = open_image("it", file.getvalue()).pixels
    assert seen.size == expected.size == (40, 60)
    assert seen.tobytes() == expected.tobytes()


def test_a_picture_may_be_a_file(tmp_path, drawn):
    """Tasks that name a file get its picture; one that is not there is a sentence."""
    drawn().save(tmp_path / "a.png")
    assert picture(str(tmp_path / "a.png"), "it").tobytes() == drawn().tobytes()
    with pytest.raises(Failure, match="does not exist"):
        picture(str(tmp_path / "b.png"), "it")


def test_a_damaged_picture_is_one_sentence(drawn, monkeypatch):
    """Pillow decodes late: what breaks then fails this picture, where lmms-eval has it not filled in."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)  # lmms_eval.api.task sets it for all
    file = io.BytesIO()
    drawn().save(file, "PNG")
    opened = Image.open(io.BytesIO(file.getvalue()[:400]))
    with pytest.raises(Failure, match="picture 1 of document 3 is damaged"):
        picture(opened, "picture 1 of document 3")


def test_a_picture_too_long_for_a_processor_is_refused():
    """Sides of 1 to 3000 would become gigabytes."""
    with pytest.raises(Failure, match="crop it"):
        picture(Image.new("RGB", (3000, 1)), "it")


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "no list of chat messages"),
        ("hello", "no list of chat messages"),
        (None, "no list of chat messages"),
        (["hello"], "a message of role None"),
        ([{"role": "judge", "content": []}], "a message of role 'judge'"),
        ([USER | {"content": 3}], "content is no list"),
        (
            [USER | {"content": [{"type": "video", "url": "a.mp4"}]}],
            "asks about video; reroute takes images",
        ),
        (
            [USER | {"content": [{"type": "audio", "url": "a.wav"}]}],
            "asks about audio; reroute takes images",
        ),
        ([USER | {"content": [{"type": "depth\x1b[2J"}]}], "of type 'depth"),
        (
            [USER | {"content": [{"type": "image", "url": 3}]}],
            "of type 'image' that is no text and no image",
        ),
        ([USER | {"content": [{"type": "text"}]}], "of type 'text' that is no text"),
    ],
)
def test_other_messages_are_refused(messages, words):
    """One sentence names the task and what it does; nothing of it reaches a terminal."""
    with pytest.raises(UsageError, match=words) as caught:
        read_chat(messages, "task 'x'")
    assert "task 'x'" in str(caught.value)
    assert "\x1b" not in str(caught.value)
