"""Manifests: files of items, as JSON lines or as one JSON array, in the forms that people have.

`image` or `images` with a `question`; `messages`, as Hugging Face and OpenAI write them; `conversations`, as
LLaVA does. A chat that ends with the assistant's turn is one to train on: that turn is what is true, and no
model sees it. Lines are read as a stream, however long the file; an array, as LLaVA's data is one, is read at
once. Knows lines and their keys; not which items a run takes, nor what is in an image.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.output import clean, shortened
from reroute_cli.data.images import MAX_DATA_URI, ImageSource, as_text, source_of
from reroute_cli.data.prompts import MAX_TURNS, Chat, Turn, check_count, check_question, read_chat

LONGEST_LINE = 1 << 20  # bytes; of a line that holds images as data, LONGEST_DATA_LINE
LONGEST_DATA_LINE = MAX_DATA_URI + LONGEST_LINE
LARGEST_ARRAY = 1 << 30  # bytes
LONGEST_ID = 256  # characters
EXAMPLE = '{"image": "desk.png", "question": "where is the cup?"}'
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
class ManifestLine:
    """An item of a manifest: a line that is not blank, or an element of an array.

    raw: the line's bytes, or as many as show that it is too long. value: the element, where it is one.
    """

    manifest: Path
    number: int
    raw: bytes = b""
    value: Any = None
    kind: str = "line"

    @property
    def name(self) -> str:
        """What the item is called where it has no id: 'line 3'."""
        return f"{self.kind} {self.number}"

    @property
    def where(self) -> str:
        """The line, as sentences name it."""
        return f"{self.name} of '{as_text(str(self.manifest))}'"

    def entry(self) -> dict[str, Any]:
        """The object in the line; raises Failure that names the line."""
        value, where = self.value, self.where
        if self.kind == "line":
            if len(self.raw) > _longest(self.raw):
                raise Failure(
                    f"{where} is longer than {_longest(self.raw)} bytes: write one item, such as {EXAMPLE}"
                )
            try:
                value = json.loads(self.raw.rstrip().decode("utf-8-sig"))
            except (ValueError, RecursionError) as error:
                wrong = shortened(error)
                if isinstance(error, json.JSONDecodeError):
                    wrong = f"{error.msg}, at column {error.colno}"
                raise Failure(f"{where} is no JSON ({wrong}): a line looks like {EXAMPLE}") from error
        if not isinstance(value, dict):
            raise Failure(f"{where} is no JSON object: a line looks like {EXAMPLE}")
        return value


def read_lines(path: Path) -> Iterable[ManifestLine]:
    """The items of a manifest, to be gone over as often as one likes: an array is read now, lines each time.

    Raises Failure where there is none to read, for lines once they are gone over.
    """
    if not _is_array(path):
        return _Lines(path)
    with _told(path):
        if (size := path.stat().st_size) > LARGEST_ARRAY:
            raise Failure(
                f"the manifest '{path}' has {size} bytes, more than the {LARGEST_ARRAY} of an array that are "
                "read: write its items as JSON lines, which are read one by one"
            )
        found = json.loads(path.read_bytes().decode("utf-8-sig"))
    if not found:
        raise Failure(f"the manifest '{path}' has no item in it: write items such as {EXAMPLE}")
    return [ManifestLine(path, number, value=value, kind="item") for number, value in enumerate(found, 1)]


@dataclass(frozen=True)
class _Lines:
    path: Path

    def __iter__(self) -> Iterator[ManifestLine]:
        line, path = None, self.path
        with _told(path), path.open("rb") as file:
            for number, raw in enumerate(_whole_lines(file), 1):
                if raw.strip():
                    yield (line := ManifestLine(path, number, raw))
        if line is None:
            raise Failure(f"the manifest '{path}' has no line in it: write lines such as {EXAMPLE}")


def _whole_lines(file: Any) -> Iterator[bytes]:
    """Lines as bytes; of a long one only the beginning, and the rest of it is passed over."""
    while raw := file.readline(LONGEST_LINE + 1):
        if len(raw) > LONGEST_LINE and not raw.endswith(b"\n"):
            raw += file.readline(_longest(raw) + 1 - len(raw))
        yield raw
        while len(raw) > LONGEST_LINE and not raw.endswith(b"\n"):
            raw = file.readline(LONGEST_LINE + 1)


def _longest(raw: bytes) -> int:
    """Bytes that a line with this beginning may have."""
    return LONGEST_DATA_LINE if b'"data:' in raw[:LONGEST_LINE] else LONGEST_LINE


def _is_array(path: Path) -> bool:
    """Whether a file is called .json and begins as an array does; what can't be read is told elsewhere."""
    try:
        if path.suffix.lower() != ".json" or not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    except OSError:
        return False


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Refuse a manifest that is no ordinary file, and turn what reading it raises into a Failure."""
    try:
        if path.exists() and not path.is_file():
            raise Failure(f"the manifest '{path}' is not an ordinary file: save it to one first")
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Failure(f"the manifest '{path}' can't be read ({reason}): check the path") from error
    except (ValueError, RecursionError) as error:
        raise Failure(f"the manifest '{path}' is no JSON ({shortened(error)}): write it anew") from error


@contextmanager
def _nothing_typed() -> Iterator[None]:
    """What is wrong with a file's content is a Failure, not a wrong use of the command."""
    try:
        yield
    except UsageError as error:
        raise Failure(str(error)) from error


def identity(entry: Mapping[str, Any], line: ManifestLine) -> str:
    """The item's own id (text or a whole number), or its line's number; raises Failure."""
    given = entry.get("id", line.name)
    known = isinstance(given, str | int) and not isinstance(given, bool)
    if not known or not str(given).strip() or not is_unicode(str(given)):
        raise Failure(f"{line.where} has an id that is neither text nor a whole number: mend or drop it")
    if len(str(given)) > LONGEST_ID:
        raise Failure(
            f"{line.where} has an id of {len(str(given))} characters ('{shortened(given, 40)}'): "
            f"at most {LONGEST_ID} are taken"
        )
    return str(given)


def same_id(line: ManifestLine, known: str, before: int) -> str:
    """The sentence for an id that the line, or element, `before` has already."""
    return f"{line.where} has the id '{known}' of {line.kind} {before}: ids must differ"


@dataclass(frozen=True)
class Conversation:
    """What an entry asks of the model. question: the last thing that the user says.

    turns: all that is said, () where that is images and then the question. answer: the true one, if the chat
    has it.
    """

    question: str
    turns: tuple[Turn, ...] = ()
    answer: str | None = None


@_nothing_typed()
def images_of(entry: Mapping[str, Any], line: ManifestLine) -> tuple[ImageSource, ...]:
    """The images of an item in the order of the prompt, none of them opened; raises Failure."""
    where = line.where
    chat = _chat(entry, where)
    images = _named(entry, where) if chat is None else chat.images
    if not images:
        raise UsageError(f"{where} has no text under 'image', which names a file: every item needs an image")
    if len(images) > MAX_IMAGES:
        raise UsageError(f"{where} has {len(images)} images: at most {MAX_IMAGES} are taken")
    for image in images:
        if not image.strip() or not is_unicode(image):
            raise UsageError(f"{where} has no text under 'image' in one of its images: name a file")
    return tuple(source_of(image, line.manifest.parent, where) for image in images)


@_nothing_typed()
def conversation_of(entry: Mapping[str, Any], line: ManifestLine) -> Conversation:
    """What an item asks about its images; raises Failure where that can't be asked."""
    where = line.where
    chat = _chat(entry, where)
    if chat is None:
        question = entry.get("question")
        if not isinstance(question, str) or not question.strip() or not is_unicode(question):
            raise UsageError(f"{where} has no text under 'question'")
        _check(question, where)
        return Conversation(question)
    turns, answer = chat.turns, None
    if turns[-1].role == "assistant":  # this is what is true, and the model is not shown it
        if None in turns[-1].parts:
            raise UsageError(f"{where} has an image in the assistant's last turn: an answer is text")
        turns, answer = turns[:-1], turns[-1].text.strip() or None
    if not turns or turns[-1].role != "user":
        raise UsageError(f"{where} has a chat in which the user does not ask last: end it with a question")
    question = turns[-1].text
    _check(question, where)
    if sum(len(turn.text) for turn in turns) > MAX_CHARACTERS:
        raise UsageError(f"{where} has turns of more than {MAX_CHARACTERS} characters: shorten the chat")
    plain = len(turns) == 1 and turns[0].parts == (*[None] * len(chat.images), question)
    return Conversation(question, () if plain else turns, answer)


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
    turns = []
    for one in spoken:
        speaker = one.get("from") if isinstance(one, dict) else None
        if not isinstance(speaker, str) or speaker not in _SPEAKERS:
            shown = shortened(clean(repr(speaker), one_line=True))
            raise UsageError(f"{where} has a turn from {shown}: it must be from {', '.join(_SPEAKERS)}")
        value, role = one.get("value"), _SPEAKERS[speaker]
        if not isinstance(value, str):
            raise UsageError(f"{where} has a turn from '{speaker}' without a text under 'value'")
        parts: list[str | None] = [value]
        if role == "user" and MARKER in value:
            parts = []
            for number, text in enumerate(value.split(MARKER)):
                parts += [None] * (number > 0) + [text.strip()] * bool(text.strip())
        turns.append(Turn(role, tuple(parts)))
    places = sum(part is None for turn in turns for part in turn.parts)
    check_count(len(images), places, f"markers {MARKER}", where)
    return Chat(tuple(turns), tuple(images))
