"""What an entry of a manifest asks, in the forms that people have: images, turns, question and true answer.

`image` or `images` with a `question`; `messages`, as Hugging Face and OpenAI write them; `conversations`, as
LLaVA does. A chat that ends with the assistant's turn is one to train on: that turn is what is true, and no
model sees it. Knows entries; not files of them, nor any image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reroute_cli.chat import MAX_TURNS, Chat, Turn, check_count, read_chat
from reroute_cli.console.errors import UsageError
from reroute_cli.console.output import clean, shortened
from reroute_cli.prompts import check_question

MAX_IMAGES = 256
MAX_CHARACTERS = 65_536  # of all turns together
MARKER = "<image>"
_SPEAKERS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}


@dataclass(frozen=True)
class Asked:
    """What is asked of the model. question: the last thing the user says.

    turns: all that is said, () where that is images and then the question. answer: the true one, if the chat
    has it.
    """

    question: str
    turns: tuple[Turn, ...] = ()
    answer: str | None = None


def images_in(entry: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The images of an entry as it names them, in the order of the prompt; raises UsageError."""
    chat = _chat(entry, where)
    images = _named(entry, where) if chat is None else chat.pictures
    if not images:
        raise UsageError(f"{where} has no text under 'image', which names a file: every item needs an image")
    if len(images) > MAX_IMAGES:
        raise UsageError(f"{where} has {len(images)} images: at most {MAX_IMAGES} are taken")
    for image in images:
        if not image.strip() or not is_unicode(image):
            raise UsageError(f"{where} has no text under 'image' in one of its images: name a file")
    return images


def asked_in(entry: Mapping[str, Any], where: str) -> Asked:
    """What an entry asks about its images; raises UsageError where that can't be asked."""
    chat = _chat(entry, where)
    if chat is None:
        question = entry.get("question")
        if not isinstance(question, str) or not question.strip() or not is_unicode(question):
            raise UsageError(f"{where} has no text under 'question'")
        _check(question, where)
        return Asked(question)
    turns, answer = _without_answer(chat.turns, where)
    if not turns or turns[-1].role != "user":
        raise UsageError(f"{where} has a chat in which the user does not ask last: end it with a question")
    question = turns[-1].text
    _check(question, where)
    if sum(len(turn.text) for turn in turns) > MAX_CHARACTERS:
        raise UsageError(f"{where} has turns of more than {MAX_CHARACTERS} characters: shorten the chat")
    plain = len(turns) == 1 and turns[0].parts == (*[None] * len(chat.pictures), question)
    return Asked(question, () if plain else turns, answer)


def is_unicode(value: str) -> bool:
    """Whether text has a UTF-8 form; half of a surrogate pair, which JSON can write, has none."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _check(question: str, where: str) -> None:
    try:
        check_question(question)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _chat(entry: Mapping[str, Any], where: str) -> Chat | None:
    """The chat of an entry that has one and no question of its own."""
    if entry.get("question") is not None:
        return None
    forms = [key for key in ("messages", "conversations") if entry.get(key) is not None]
    if not forms:
        return None
    if len(forms) > 1:
        raise UsageError(f"{where} has both 'messages' and 'conversations': keep one of them")
    images = _named(entry, where)
    if forms == ["messages"]:
        chat = read_chat(entry["messages"], where, images)
    else:
        chat = _llava(entry["conversations"], where, images)
    if not all(is_unicode(turn.text) for turn in chat.turns):
        raise UsageError(f"{where} has a turn that is not valid UTF-8 text: type it anew")
    return chat


def _named(entry: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The images under `image` or `images`: one, or a list of them; () where there is neither."""
    keys = [key for key in ("image", "images") if entry.get(key) is not None]
    found = [tuple(value) if isinstance(value := entry[key], list) else (value,) for key in keys]
    for key, names in zip(keys, found, strict=True):
        if not names or not all(
            isinstance(name, str) and name.strip() and is_unicode(name) for name in names
        ):
            raise UsageError(
                f"{where} has no text under '{key}', or no list of texts: name a file, or several"
            )
    if len(found) == 2 and found[0] != found[1]:
        raise UsageError(f"{where} has images under 'image' and others under 'images': keep one of them")
    return found[0] if found else ()


def _llava(spoken: Any, where: str, images: Sequence[str]) -> Chat:
    """LLaVA's turns: each `<image>` in what the user says is an image's place, space around it dropped."""
    if not isinstance(spoken, list) or not spoken or len(spoken) > MAX_TURNS:
        raise UsageError(f"{where} has no list of 1 to {MAX_TURNS} turns under 'conversations'")
    turns = tuple(_llava_turn(one, where) for one in spoken)
    places = sum(part is None for turn in turns for part in turn.parts)
    check_count(len(images), places, f"markers {MARKER}", where)
    return Chat(turns, tuple(images))


def _llava_turn(spoken: Any, where: str) -> Turn:
    speaker = spoken.get("from") if isinstance(spoken, dict) else None
    if not isinstance(speaker, str) or speaker not in _SPEAKERS:
        shown = shortened(clean(repr(speaker), one_line=True))
        raise UsageError(f"{where} has a turn from {shown}: it must be from {', '.join(_SPEAKERS)}")
    value = spoken.get("value")
    if not isinstance(value, str):
        raise UsageError(f"{where} has a turn from '{speaker}' without a text under 'value'")
    role = _SPEAKERS[speaker]
    if role != "user" or MARKER not in value:
        return Turn(role, (value,))
    parts: list[str | None] = []
    for number, text in enumerate(value.split(MARKER)):
        parts += [None] * (number > 0) + [text.strip()] * bool(text.strip())
    return Turn(role, tuple(parts))


def _without_answer(turns: tuple[Turn, ...], where: str) -> tuple[tuple[Turn, ...], str | None]:
    """The turns that the model sees, and the assistant's last one as the true answer, where it says one."""
    if turns[-1].role != "assistant":
        return turns, None
    if None in turns[-1].parts:
        raise UsageError(f"{where} has an image in the assistant's last turn: an answer is text")
    return turns[:-1], turns[-1].text.strip() or None
