"""Which questions about which pictures a run goes over: the sample scenes, named pictures, or a manifest.

A manifest is JSONL: a line is an object with `image` (a path, relative to the manifest's folder), `question`
and perhaps `id`; more keys are ignored. It is read as a stream, twice: once to check and count every line,
once to keep those that are chosen. Knows files; not models, schedules or what becomes of the items.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reroute_cli.errors import CliError, Failure, UsageError
from reroute_cli.prompts import check_question

MANIFEST = "manifest.jsonl"
# Of samples and manifests: a minute of the embedded model, and every kind of question of the samples.
DEFAULT_ITEMS = 12
LONGEST_LINE = 1 << 20  # bytes
_LINE = '{"image": "desk.png", "question": "where is the cup?"}'


@dataclass(frozen=True)
class Item:
    """One question about one picture. image: as written. path: where that is. where: its line, if any."""

    id: str
    image: str
    path: str
    question: str
    where: str = ""


@dataclass(frozen=True)
class Items:
    """What a run goes over: the items that were chosen, of how many."""

    chosen: tuple[Item, ...]
    available: int


def choose_items(
    images: Sequence[str], question: str | None, manifest: Path | None, limit: int | None
) -> Items:
    """The items that the options ask for, spread evenly over what there is; raises UsageError or Failure.

    limit: at most so many; None is all named pictures, or DEFAULT_ITEMS of the samples or of a manifest.
    """
    if images and manifest is not None:
        raise UsageError("a manifest names its own pictures: drop --manifest or drop the pictures")
    if images and question is None:
        raise UsageError("pictures need a question: add -q QUESTION")
    if question is not None and not images:
        raise UsageError("-q asks about pictures: name them before it, or drop it")
    if question is not None:
        check_question(question)
        return _of_pictures(images, question, limit)
    return read_manifest(manifest or samples_manifest(), limit or DEFAULT_ITEMS)


def check_pictures(items: Sequence[Item]) -> None:
    """Open every picture once, before anything large is loaded; raises Failure for the first that is none."""
    from reroute_cli.images import open_picture

    for item in items:
        with told(item):
            open_picture(item.path)


@contextmanager
def told(item: Item) -> Iterator[None]:
    """Say which item it is that something is wrong with; what a manifest says wrong is a Failure."""
    try:
        yield
    except CliError as error:
        typed = isinstance(error, UsageError) and not item.where
        if typed or (not item.where and item.path in str(error)):
            raise
        raise Failure(f"{item.where or repr(item.image)}: {error}") from error


def samples_manifest() -> Path:
    """The manifest of the sample scenes: the copy inside an installed package, or the checkout's."""
    package = Path(__file__).resolve().parent
    places = (package / "samples" / MANIFEST, package.parent / "samples" / MANIFEST)
    for place in places:
        if place.is_file():
            return place
    raise Failure("the sample scenes are not installed: reinstall reroute, or name pictures or a --manifest")


def read_manifest(path: Path, limit: int) -> Items:
    """At most `limit` items of a manifest, spread evenly; raises Failure that names file and line."""
    if path.exists() and not path.is_file():
        raise Failure(f"the manifest '{path}' is not an ordinary file: save it to one first")
    available = 0
    for number, raw in _lines(path):
        _item(raw, path, number)
        available += 1
    if not available:
        raise Failure(f"the manifest '{path}' has no line in it: write lines such as {_LINE}")
    wanted = set(spread(available, limit))
    lines = (line for index, line in enumerate(_lines(path)) if index in wanted)
    items = tuple(_item(raw, path, number) for number, raw in lines)
    seen: dict[str, str] = {}
    for item in items:
        if item.id in seen:
            raise Failure(f"{item.where} has the id '{item.id}' of {seen[item.id]}: ids must differ")
        seen[item.id] = item.where
    return Items(items, available)


def spread(available: int, limit: int) -> list[int]:
    """Indices of at most `limit` of `available` things at even distances, the first one included."""
    count = min(available, limit)
    return [index * available // count for index in range(count)]


def _of_pictures(images: Sequence[str], question: str, limit: int | None) -> Items:
    """One item a picture, called after its file; a name that comes again gets a number."""
    items: list[Item] = []
    for image in images:
        name = Path(image).name or image
        before = sum(Path(item.image).name == name for item in items)
        items.append(Item(f"{name}#{before + 1}" if before else name, image, image, question))
    return Items(tuple(items[index] for index in spread(len(items), limit or len(items))), len(items))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of every line that is not blank; of an endless one, as much as shows that it is."""
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), 1):
                if raw.strip():
                    yield number, raw
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Failure(f"the manifest '{path}' can't be read ({reason}): check the path") from error


def _item(raw: bytes, path: Path, number: int) -> Item:
    where = f"line {number} of '{path}'"
    entry = _parsed(raw, where)
    image, question = (_text(entry, key, where) for key in ("image", "question"))
    try:
        check_question(question)
    except UsageError as error:
        raise Failure(f"{where}: {error}") from error
    picture = path.parent / image
    if "://" in image:
        raise Failure(f"{where} names the address '{image}': pictures are read from files, so download it")
    if not _is_there(picture):
        raise Failure(f"{where} names the picture '{image}', and '{picture}' does not exist: check the path")
    return Item(_identity(entry, number, where), image, str(picture), question, where)


def _parsed(raw: bytes, where: str) -> dict[str, Any]:
    if len(raw) > LONGEST_LINE:
        raise Failure(f"{where} is longer than {LONGEST_LINE} bytes: a line holds one item, such as {_LINE}")
    try:
        entry = json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Failure(f"{where} is no JSON ({error}): a line looks like {_LINE}") from error
    if not isinstance(entry, dict):
        raise Failure(f"{where} is no JSON object: a line looks like {_LINE}")
    return entry


def _text(entry: dict[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip() or not _is_unicode(value):
        raise Failure(f"{where} has no text under '{key}': a line looks like {_LINE}")
    return value


def _is_there(picture: Path) -> bool:
    try:
        return picture.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _identity(entry: dict[str, Any], number: int, where: str) -> str:
    """The item's own id (text or a whole number), or its line's number."""
    given = entry.get("id", f"line {number}")
    known = isinstance(given, str | int) and not isinstance(given, bool)
    if not known or not str(given).strip() or not _is_unicode(str(given)):
        raise Failure(f"{where} has an id that is neither text nor a whole number: mend or drop it")
    return str(given)


def _is_unicode(text: str) -> bool:
    """Whether text has a UTF-8 form; half of a surrogate pair, which JSON can write, has none."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
