"""A question and its images as model inputs.

Knows processors and chat templates; not models, schedules or files. What a user types is text and nothing
else: words that a tokenizer would read as control or image tokens are refused, never passed on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.missing import missing_name
from reroute_cli.console.output import clean, shortened

if TYPE_CHECKING:
    from PIL import Image

    from reroute_cli.data.images import Picture

MAX_QUESTION = 8192  # characters
_SHOWN = 40
_ROLES = 8  # of a refused chat that are named
Message = dict[str, Any]


@dataclass(frozen=True)
class Prompt:
    """What a processor made of one question and its images; batch 1.

    inputs: keyword arguments of generate(), input_ids (1, L) among them. seconds: how long making them took.
    """

    inputs: dict[str, Any]
    seconds: float

    @property
    def tokens(self) -> int:
        """Length L of the prompt, visual tokens included."""
        return int(self.inputs["input_ids"].shape[1])

    def count(self, token_ids: Sequence[int]) -> int:
        """How many prompt tokens are one of these ids."""
        return sum(token in set(token_ids) for token in self.inputs["input_ids"][0].tolist())


def check_question(question: str) -> None:
    """Refuse a question that says nothing, is not text, or is a document (raises UsageError)."""
    if not question.strip():
        raise UsageError("the question is empty: give a few words, such as 'where is the cup?'")
    if len(question) > MAX_QUESTION:
        raise UsageError(f"the question has {len(question)} characters: at most {MAX_QUESTION} are taken")
    try:
        question.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError("the question is not valid UTF-8 text: type it anew") from error


def build_prompt(processor: Any, images: Sequence[Picture], question: str) -> Prompt:
    """Run chat template, tokenizer and image processor (raises UsageError or Failure with one sentence)."""
    refuse_control_tokens(processor, question)
    text = render_template(processor, question, len(images))
    return run_processor(processor, [image.pixels for image in images], text)


def run_processor(processor: Any, pixels: Sequence[Image.Image], text: str) -> Prompt:
    """Run tokenizer and image processor. pixels: in the order of their places in the text; raises Failure."""
    from time import perf_counter

    token = getattr(processor, "image_token", None)
    places = text.count(token) if isinstance(token, str) and token else 0
    if places not in (0, len(pixels)):  # none: the template marks them with another token
        raise Failure(
            f"the model's chat template makes {places} places for {len(pixels)} images: ask about "
            "fewer, or fetch the model anew"
        )
    start = perf_counter()
    try:
        made = processor(images=list(pixels) or None, text=[text], return_tensors="pt")
    except (ValueError, TypeError) as error:
        sizes = ", ".join(f"{width} × {height}" for width, height in (image.size for image in pixels))
        raise Failure(f"the model's processor refuses images of {sizes}: {shortened(error)}") from error
    return Prompt(dict(made), perf_counter() - start)


def refuse_control_tokens(processor: Any, question: str) -> None:
    """Raise UsageError if the tokenizer would read part of the question as a control or image token."""
    for token in sorted(control_tokens(processor), key=len, reverse=True):
        if token and token in question:
            shown = clean(token, one_line=True)[:_SHOWN]
            raise UsageError(f"the question contains '{shown}', a control token of this model: reword it")


def control_tokens(processor: Any) -> set[str]:
    """Every string that the processor or its tokenizer treats as more than text."""
    tokenizer = processor.tokenizer
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    named = {
        value
        for holder in (processor, tokenizer)
        for name, value in vars(holder).items()
        if name.endswith("_token") and isinstance(value, str)
    }
    return added | named | set(tokenizer.all_special_tokens)


def render_template(processor: Any, question: str, images: int) -> str:
    """The prompt as text: images first, then the question, then the model's turn."""
    content = [{"type": "image"} for _ in range(images)] + [{"type": "text", "text": question}]
    return render_messages(processor, [{"role": "user", "content": content}])


def render_messages(processor: Any, messages: Sequence[Message]) -> str:
    """The prompt as text, the model's turn last; without a template, the parts one after the other.

    messages: turns with a list of text and image parts each, as chat templates read them.
    """
    if not processor.chat_template:
        token = getattr(processor, "image_token", "<image>")
        return "\n".join("".join(part.get("text", token) for part in turn["content"]) for turn in messages)
    try:
        return str(processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
    except Exception as error:  # a template is a program of the model's, and raises what it likes
        if missing_name(error):
            raise
        images = sum(part["type"] == "image" for turn in messages for part in turn["content"])
        if len(messages) > 1 or images > 1:
            roles = ", ".join(turn["role"] for turn in messages[:_ROLES]) + ", …" * (len(messages) > _ROLES)
            raise Failure(
                f"the model's chat template refuses turns of {roles} with {images} images "
                f"({shortened(error)}): leave out what it does not take, such as a system turn"
            ) from error
        raise Failure(
            f"the model's chat template fails ({shortened(error)}): fetch the model anew"
        ) from error
