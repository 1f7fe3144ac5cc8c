"""Chat messages with pictures as model inputs: the turns in their order, through the model's own template.

What a benchmark writes is text and nothing else. Words in it that a tokenizer would read as control or image
tokens get a space behind their first character: the question stays readable, and the model gets no token that
no picture stands for. Knows processors and Pillow; not lmms-eval, models or schedules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from PIL import Image

from reroute_cli.errors import Failure, UsageError
from reroute_cli.images import as_seen, open_picture
from reroute_cli.output import clean
from reroute_cli.prompts import Prompt, control_tokens

_SHOWN = 40
_ROLES = ("system", "user", "assistant")
Part = Mapping[str, Any]


@dataclass(frozen=True)
class Turn:
    """One message. parts: {"type": "text", "text": ...} and {"type": "image", "url": ...}, in order."""

    role: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Chat:
    """All turns of one request, the model's answer to come."""

    turns: tuple[Turn, ...]

    @property
    def pictures(self) -> list[Any]:
        """What stands for each picture, in the order of the text: a Pillow image or a path."""
        return [part["url"] for turn in self.turns for part in turn.parts if part["type"] == "image"]


def read_chat(messages: Any, task: str) -> Chat:
    """The chat in a task's messages; raises UsageError for what reroute can't show to a model."""
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise UsageError(f"task '{task}' makes no list of chat messages: reroute needs one")
    return Chat(tuple(_turn(message, task) for message in messages))


def _turn(message: Any, task: str) -> Turn:
    role = message.get("role") if isinstance(message, Mapping) else None
    if role not in _ROLES:
        raise UsageError(f"task '{task}' has a message of role {role!r}: it must be {', '.join(_ROLES)}")
    content = message.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, Sequence):
        raise UsageError(f"task '{task}' has a message whose content is no list of texts and pictures")
    return Turn(role, tuple(_part(part, task) for part in parts))


def _part(part: Any, task: str) -> Part:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if kind == "image" and isinstance(part.get("url"), Image.Image | str):
        return {"type": "image", "url": part["url"]}
    shown = clean(str(kind), one_line=True)
    if kind in ("video", "audio"):
        raise UsageError(f"task '{task}' asks about {shown}; reroute takes pictures and text: drop it")
    raise UsageError(f"task '{task}' has a message part of type '{shown}' that is no text and no picture")


@dataclass(frozen=True)
class Built:
    """A prompt; escaped: its text held words that are control tokens of the model."""

    prompt: Prompt
    escaped: bool


def build_chat(processor: Any, chat: Chat, pixels: Sequence[Image.Image]) -> Built:
    """Run chat template, tokenizer and image processor. pixels: of the pictures, upright and RGB.

    Raises Failure.
    """
    tokens = sorted((token for token in control_tokens(processor) if token), key=len, reverse=True)
    turns = [_with(turn, lambda text: _spaced(text, tokens)) for turn in chat.turns]
    text = _render(processor, turns)
    _check_tokens(tokens, text, _render(processor, [_with(turn, lambda _: "x") for turn in chat.turns]))
    start = perf_counter()
    try:
        made = processor(images=list(pixels) or None, text=[text], return_tensors="pt")
    except (ValueError, TypeError) as error:
        raise Failure(f"the model's processor refuses a prompt of {len(pixels)} pictures: {error}") from error
    return Built(Prompt(dict(made), perf_counter() - start), escaped=tuple(turns) != chat.turns)


def picture(given: Image.Image | str, name: str) -> Image.Image:
    """The pixels of one picture as a model should see them; raises Failure with one sentence."""
    if isinstance(given, str):
        return open_picture(given).pixels
    try:
        return as_seen(given, name)
    except Failure:
        raise
    except Exception as error:  # Pillow decodes late, and meets damage with OSError, SyntaxError, ValueError
        raise Failure(f"{name} is damaged: {str(error) or type(error).__name__}") from error


def _with(turn: Turn, change: Callable[[str], str]) -> Turn:
    """The turn with each of its texts changed."""
    parts = [
        {"type": "text", "text": change(part["text"])} if part["type"] == "text" else part
        for part in turn.parts
    ]
    return Turn(turn.role, tuple(parts))


def _spaced(text: str, tokens: Sequence[str]) -> str:
    """The text with a space in every word that is a control token."""
    for token in tokens:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def _check_tokens(tokens: Sequence[str], text: str, blank: str) -> None:
    """Refuse a prompt with a control token that its template alone would not have: parts may join to one."""
    for token in tokens:
        if text.count(token) != blank.count(token):
            shown = clean(token, one_line=True)[:_SHOWN]
            raise Failure(f"the parts of the question make a '{shown}', a control token of this model")


def _render(processor: Any, turns: Sequence[Turn]) -> str:
    """The prompt as text, the model's turn last; without a template, the parts one after the other."""
    if not processor.chat_template:
        token = getattr(processor, "image_token", "<image>")
        return "\n".join(
            "".join(token if part["type"] == "image" else part["text"] for part in turn.parts)
            for turn in turns
        )
    messages = [{"role": turn.role, "content": [_shown(part) for part in turn.parts]} for turn in turns]
    try:
        return str(processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
    except Exception as error:  # a template is a program of the model's, and raises what it likes
        raise Failure(f"the model's chat template fails ({error}): fetch the model anew") from error


def _shown(part: Part) -> Part:
    """A part as templates read it: a picture is only a place."""
    return {"type": "image"} if part["type"] == "image" else part
