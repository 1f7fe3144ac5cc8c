"""A question and its images, or the turns of a conversation, as model inputs.

A conversation goes through the model's own template. What people write is text and nothing else. Words in it
that a tokenizer would read as control or image tokens are refused, or, where nobody can reword them, as in a
benchmark, get a space behind their first character: the model never gets a token that no image stands for.
Knows processors, chat templates and Pillow; not models, schedules, manifests or lmms-eval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.missing import missing_name
from reroute_cli.console.output import clean, shortened
from reroute_cli.data.images import Picture, as_seen, open_image

MAX_QUESTION = 8192  # characters
_SHOWN = 40  # characters of a control token
_ROLES = 8  # of a refused chat that are named
Message = dict[str, Any]
ROLES = ("system", "user", "assistant")
MAX_TURNS = 1024
_IMAGE_KEYS = ("url", "path", "image", "image_url")  # under which an image part names its image


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

    def behind(self, token_ids: Sequence[int]) -> int:
        """How many prompt tokens stand behind the last of these ids; all, where there is none."""
        backwards = reversed(self.inputs["input_ids"][0].tolist())
        return next((place for place, token in enumerate(backwards) if token in token_ids), self.tokens)


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
        return open_image(given).pixels
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
            shown = clean(token, one_line=True)[:_SHOWN]
            raise Failure(f"the parts of the question make a '{shown}', a control token of this model")
    return text
