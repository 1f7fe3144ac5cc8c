"""A question and its pictures as model inputs.

Knows processors and chat templates; not models, schedules or files. What a user types is text and nothing
else: words that a tokenizer would read as control or image tokens are refused, never passed on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reroute_cli.errors import Failure, UsageError
from reroute_cli.images import Picture
from reroute_cli.missing import missing_name
from reroute_cli.output import clean

MAX_QUESTION = 8192  # characters
_SHOWN = 40


@dataclass(frozen=True)
class Prompt:
    """What a processor made of one question and its pictures; batch 1.

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


def build_prompt(processor: Any, pictures: Sequence[Picture], question: str) -> Prompt:
    """Run chat template, tokenizer and image processor (raises UsageError or Failure with one sentence)."""
    from time import perf_counter

    refuse_control_tokens(processor, question)
    text = render_template(processor, question, len(pictures))
    start = perf_counter()
    try:
        made = processor(images=[picture.pixels for picture in pictures], text=[text], return_tensors="pt")
    except (ValueError, TypeError) as error:
        sizes = ", ".join(f"{width} × {height}" for width, height in (picture.size for picture in pictures))
        raise Failure(f"the model's processor refuses pictures of {sizes}: {error}") from error
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


def render_template(processor: Any, question: str, pictures: int) -> str:
    """The prompt as text: pictures first, then the question, then the model's turn."""
    if not processor.chat_template:
        image_token = getattr(processor, "image_token", "<image>")
        return f"{image_token * pictures}{question}"
    content = [{"type": "image"} for _ in range(pictures)] + [{"type": "text", "text": question}]
    messages = [{"role": "user", "content": content}]
    try:
        return str(processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
    except Exception as error:  # a template is a program of the model's, and raises what it likes
        if missing_name(error):
            raise
        raise Failure(f"the model's chat template fails ({error}): fetch the model anew") from error
