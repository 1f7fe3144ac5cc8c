"""Turns of a conversation with images as model inputs, in their order, through the model's own template.

What people write in a turn is text and nothing else. Words in it that a tokenizer would read as control or
image tokens are refused, or, where nobody can reword them, as in a benchmark, get a space behind their first
character: the model never gets a token that no image stands for. Knows processors and Pillow; not lmms-eval,
manifests, models or schedules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.output import clean, shortened
from reroute_cli.data.images import Picture, as_seen, open_picture
from reroute_cli.data.prompts import (
    Message,
    Prompt,
    build_prompt,
    control_tokens,
    refuse_control_tokens,
    render_messages,
    run_processor,
)

ROLES = ("system", "user", "assistant")
MAX_TURNS = 1024
_TOKEN_SHOWN = 40
_IMAGE_KEYS = ("url", "path", "image", "image_url")  # under which an image part names its image


@dataclass(frozen=True)
class Turn:
    """One message. parts: its texts in order, and None in each place where an image stands."""

    role: str
    parts: tuple[str | None, ...]

    @property
    def text(self) -> str:
        """All its texts, a line each."""
        return "\n".join(part for part in self.parts if part is not None)

    def message(self) -> Message:
        """The turn as chat templates and records have it; an image is only a place."""
        content = [
            {"type": "image"} if part is None else {"type": "text", "text": part} for part in self.parts
        ]
        return {"role": self.role, "content": content}


@dataclass(frozen=True)
class Chat:
    """All turns of one request, the model's answer to come. images: what is in each place for an image."""

    turns: tuple[Turn, ...]
    images: tuple[Any, ...] = ()


def read_chat(messages: Any, where: str, images: Sequence[Any] = ()) -> Chat:
    """The chat in messages as Hugging Face and OpenAI write them.

    where: who has them, for sentences. images: for the image parts that name none, in order. Raises
    UsageError for what can't be shown to a model.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise UsageError(f"{where} has no list of chat messages: give one turn at least")
    if len(messages) > MAX_TURNS:
        raise UsageError(f"{where} has {len(messages)} turns: at most {MAX_TURNS} are taken")
    found = [_turn(message, where) for message in messages]
    waiting = iter(images)
    places = [place for _, turn in found for place in turn]
    pictured = tuple(next(waiting, None) if place is None else place for place in places)
    bare = places.count(None)
    check_count(len(images), bare, "places for an image without a name", where)
    return Chat(tuple(turn for turn, _ in found), pictured)


def check_count(images: int, places: int, called: str, where: str) -> None:
    """Raise UsageError where images and the places for them are not equally many."""
    if images != places:
        images_there = f"{images} image{'' if images == 1 else 's'}"
        raise UsageError(f"{where} has {images_there} for {places} {called}: give each place its image")


def _turn(message: Any, where: str) -> tuple[Turn, list[Any]]:
    """The turn, and what its image parts name: None where nothing."""
    role = message.get("role") if isinstance(message, Mapping) else None
    if role not in ROLES:
        shown = shortened(clean(repr(role), one_line=True))
        raise UsageError(f"{where} has a message of role {shown}: it must be {', '.join(ROLES)}")
    content = message.get("content")
    if isinstance(content, str):
        return Turn(role, (content,)), []
    if not isinstance(content, Sequence):
        raise UsageError(f"{where} has a message whose content is no list of texts and images")
    parts: list[str | None] = []
    named: list[Any] = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            parts.append(str(part["text"]))
            continue
        given: Any = None
        if kind in ("image", "image_url"):
            given = next((part[key] for key in _IMAGE_KEYS if part.get(key) is not None), None)
            given = given.get("url", given) if isinstance(given, Mapping) else given
        if not isinstance(given, Image.Image | str) and not (given is None and kind == "image"):
            shown = shortened(clean(str(kind), one_line=True))
            if kind in ("video", "audio"):
                raise UsageError(f"{where} asks about {shown}; reroute takes images and text: drop it")
            raise UsageError(f"{where} has a message part of type '{shown}' that is no text and no image")
        parts.append(None)
        named.append(given)
    return Turn(role, tuple(parts)), named


def build_chat(processor: Any, chat: Chat, pixels: Sequence[Image.Image]) -> tuple[Prompt, bool]:
    """The prompt, and whether a text held control tokens of the model, which are spaced in it.

    pixels: of the images, upright and RGB. Raises Failure.
    """
    tokens = sorted((token for token in control_tokens(processor) if token), key=len, reverse=True)

    def spaced(text: str) -> str:
        for token in tokens:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    turns = tuple(_with(turn, spaced) for turn in chat.turns)
    prompt = run_processor(processor, pixels, _rendered(processor, turns, tokens))
    return prompt, turns != chat.turns


def prompt_of(processor: Any, images: Sequence[Picture], question: str, turns: Sequence[Turn] = ()) -> Prompt:
    """The prompt of an item: of its turns where it has any, else of its images and then its question.

    Raises UsageError for a control token in a text, and Failure.
    """
    if not turns:
        return build_prompt(processor, images, question)
    for text in (part for turn in turns for part in turn.parts if part is not None):
        refuse_control_tokens(processor, text)
    rendered = _rendered(processor, turns, sorted(control_tokens(processor)))
    for turn in turns:
        if any(part is not None and part.strip() not in rendered for part in turn.parts):
            raise Failure(
                f"the model's chat template leaves out what the {turn.role} says: drop that turn, or ask "
                "another model"
            )
    return run_processor(processor, [image.pixels for image in images], rendered)


def picture(given: Image.Image | str, name: str) -> Image.Image:
    """The pixels of one image as a model should see them; raises Failure with one sentence."""
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
    return replace(turn, parts=tuple(None if part is None else change(part) for part in turn.parts))


def _rendered(processor: Any, turns: Sequence[Turn], tokens: Sequence[str]) -> str:
    """The prompt as text; refused where a control token is in it that the template alone would not have."""
    text = render_messages(processor, [turn.message() for turn in turns])
    blank = render_messages(processor, [_with(turn, lambda _: "x").message() for turn in turns])
    for token in filter(None, tokens):
        if text.count(token) != blank.count(token):
            shown = clean(token, one_line=True)[:_TOKEN_SHOWN]
            raise Failure(f"the parts of the question make a '{shown}', a control token of this model")
    return text
