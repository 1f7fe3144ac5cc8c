"""Items: one question about images each, from named images, a folder, or the lines of a manifest.

A batch takes every item, and none stops it: what can't be asked is an item with a `problem`. A measurement
takes a few, spread evenly, and is refused for the first that is wrong. Images are opened only to check them.
Knows files; not models, schedules or records.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from reroute_cli.console.errors import CliError, Failure, UsageError
from reroute_cli.console.output import shortened
from reroute_cli.data import manifest as lines
from reroute_cli.data.folders import find_image_files
from reroute_cli.data.images import LONGEST_SHOWN, ImageLike, ImageSource, as_list, as_source, as_text, exists
from reroute_cli.data.manifest import EXAMPLE, Conversation, ManifestLine, is_unicode
from reroute_cli.data.prompts import check_question

if TYPE_CHECKING:
    from reroute_cli.data.prompts import Turn

MANIFEST = "manifest.jsonl"
# Of samples and manifests: a minute of the embedded model, and every kind of question of the samples.
DEFAULT_ITEMS = 12
MOST_DATA = 1 << 30  # bytes of images that a run's items hold themselves
MOST_CHECKED = 256 << 20  # bytes of files that are kept from their check on; the rest is read again

Box: TypeAlias = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels, x1 < x2, y1 < y2


@dataclass(frozen=True, slots=True)
class Truth:
    """What a right answer is. kind: a key of JUDGES.

    answers: every wording that is right, for kinds that are judged by words. box: x1, y1, x2, y2 in pixels,
    image upright, for kind "box". options: letters with their texts, for kind "choice".
    """

    kind: str
    answers: tuple[str, ...] = ()
    box: Box | None = None
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """One question about images.

    id: the manifest's, or what the image is called; no two items of a run share it.
    images: in the order of the prompt, one at least, none of them opened.
    label: what a right answer is, where that is known. group: the benchmark's or manifest's kind of question.
    turns: all that is said, in a chat of which the question is the end; () where that is the question alone.
    where: its line, as sentences name it; "" without a manifest.
    problem: the sentence that says why this can't be asked, or ""; the other fields are what could be read.
    """

    id: str
    images: tuple[ImageSource, ...]
    question: str
    label: Truth | None = None
    group: str = ""
    turns: tuple[Turn, ...] = ()
    where: str = ""
    problem: str = ""

    @property
    def image(self) -> str:
        """The first image as it is named, as text."""
        return self.images[0].name

    def read(self) -> Item:
        """The item with the bytes of all its images, so that no file is read again; raises Failure."""
        return self.with_data([image.content() for image in self.images])

    def with_data(self, contents: Sequence[bytes | None]) -> Item:
        """The item with its images' bytes in order, as far as they are given."""
        pairs = zip(self.images, contents, strict=True)
        held = (image if data is None else replace(image, data=data) for image, data in pairs)
        return replace(self, images=tuple(held))

    def without_data(self) -> Item:
        """The item without its images' bytes, to keep."""
        return replace(self, images=tuple(image.without_data() for image in self.images))

    def contents(self) -> tuple[str, ...]:
        """Of each image the SHA-256 (hex) of its bytes; of one that can't be read, its name."""
        found = []
        for image in self.images:
            try:
                found.append(image.digest())
            except Exception:  # noqa: BLE001  what is wrong with it is said where the item is asked
                found.append(image.name)
        return tuple(found)


@dataclass(frozen=True)
class Items:
    """What a run goes over: the items that were chosen, of how many.

    skipped: files of a folder that are no images, and hidden ones.
    """

    chosen: tuple[Item, ...]
    available: int
    skipped: int = 0


def choose_items(
    images: Sequence[ImageLike], question: str | None, manifest: Path | None, limit: int | None
) -> Items:
    """The items that a measurement's options ask for, spread evenly over what there is.

    limit: at most so many; None is all named images, or DEFAULT_ITEMS of the samples or of a manifest. Raises
    UsageError, and Failure for the first item that is wrong, chosen or not.
    """
    if images and manifest is not None:
        raise UsageError("a manifest names its own images: drop --manifest or drop the images")
    if images and question is None:
        raise UsageError("images need a question: add -Q QUESTION")
    if question is not None and not images:
        raise UsageError("-Q asks about images: name them before it, or drop it")
    if question is None:
        # The manifest is gone over twice: once to check and count every item, once to keep those that are
        # chosen. Only ids of chosen items must differ; keys beside those of a question are ignored.
        path, seen = manifest or samples_manifest(), dict[str, int]()
        found = lines.read_lines(path)
        available = sum(1 for _ in map(_askable, found))
        wanted = set(spread(available, limit or DEFAULT_ITEMS))
        chosen = (_askable(line, seen) for index, line in enumerate(found) if index in wanted)
        return Items(tuple(_held(path, chosen)), available)
    check_question(question)
    return asked_of(((image, question) for image in images), limit)


def asked_of(pairs: Iterable[tuple[ImageLike | Sequence[ImageLike], str]], limit: int | None = None) -> Items:
    """An item for each pair of images and a question, or `limit` of them, spread evenly.

    A question that can't be asked is the problem of its item. Raises UsageError for a pair without an image,
    Failure for pixels that no model can see.
    """
    seen: dict[str, int] = {}
    items = []
    for images, question in pairs:
        sources = tuple(map(as_source, as_list(images)))
        if not sources:
            raise UsageError(f"no image is given for the question '{shortened(question)}': name one or more")
        problem = ""
        try:
            check_question(question)
        except UsageError as error:
            problem = str(error)
        name = _unlike(Path(sources[0].name).name or sources[0].name, seen)
        items.append(Item(name, sources, question, problem=problem))
    return Items(tuple(items[index] for index in spread(len(items), limit or len(items))), len(items))


def batch_items(folder: Path | None, question: str | None, manifest: Path | None, limit: int | None) -> Items:
    """The items that a batch's options ask for, or `limit` of them, spread evenly.

    An item that is wrong says so in its `problem`. Raises UsageError, and Failure where there is nothing.
    """
    if folder is not None and manifest is not None:
        raise UsageError("a manifest names its own images: drop --manifest or drop the folder")
    if manifest is not None:
        if question is not None:
            raise UsageError("a manifest has its own questions: drop -Q or drop --manifest")
        found = lines.read_lines(manifest)
        available = sum(1 for _ in found)
        seen: dict[str, int] = {}
        wanted = set(spread(available, limit or available))
        items = (_read(line, _READERS, seen) for line in found)  # all: a second id is one whatever is chosen
        chosen = (item for index, item in enumerate(items) if index in wanted)
        return Items(tuple(_held(manifest, chosen)), available)
    if folder is None:
        raise UsageError("there is nothing to ask about: name a folder of images, or give --manifest FILE")
    if question is None:
        raise UsageError("a folder needs a question: add -Q QUESTION")
    check_question(question)
    return _of_folder(folder, question, limit)


def check_images(items: Iterable[Item]) -> tuple[Item, ...]:
    """Open every image once, before anything large is loaded; raises Failure for the first that is none.

    The items come back with their images' bytes, MOST_CHECKED in all, so that those files are not read again.
    """
    checked, room = [], MOST_CHECKED
    for item in items:
        with told(item):
            read = item.read()
            for image in read.images:
                image.open()
        size = data_bytes(read.images)
        checked.append(read if size <= room else item)
        room -= size if size <= room else 0
    return tuple(checked)


@contextmanager
def told(item: Item) -> Iterator[None]:
    """Say which item it is that something is wrong with; what a manifest says wrong is a Failure."""
    try:
        yield
    except CliError as error:
        typed = isinstance(error, UsageError) and not item.where
        if typed or (not item.where and item.images[0].path in str(error)):
            raise
        raise Failure(f"{item.where or repr(shortened(item.image))}: {error}") from error


def misplaced(box: Box, size: tuple[int, int]) -> str:
    """Why a true box can't belong to an image of this width and height, as a sentence; "" where it can."""
    width, height = size
    if box[2] <= width + 1 and box[3] <= height + 1:  # the last pixel may be rounded up
        return ""
    return (
        f"the true box {list(box)} reaches out of the image, which is {width} × {height}: give pixels of it"
    )


def samples_manifest() -> Path:
    """The manifest of the sample scenes: the copy inside an installed package, or the checkout's."""
    package = Path(__file__).resolve().parent.parent
    places = (package / "samples" / MANIFEST, package.parent / "samples" / MANIFEST)
    for place in places:
        if place.is_file():
            return place
    raise Failure("the sample scenes are not installed: reinstall reroute, or name images or a --manifest")


def image_folders(beside: Iterable[Path] = ()) -> list[Path]:
    """Where images that records name are looked for: beside these files, here, and among the samples."""
    samples = samples_manifest().parent
    return list(dict.fromkeys([*(path.parent for path in beside), Path(), samples / "heldout", samples]))


def spread(available: int, limit: int) -> list[int]:
    """Indices of at most `limit` of `available` things at even distances, the first one included."""
    count = min(available, limit)
    return [index * available // count for index in range(count)]


def data_bytes(images: Iterable[ImageSource]) -> int:
    """How many bytes of these images are held in memory."""
    return sum(len(image.data) for image in images if image.data is not None)


def _held(path: Path, items: Iterable[Item]) -> Iterator[Item]:
    """The items chosen from a manifest; raises Failure where their images are more bytes than fit."""
    held = 0
    for item in items:
        held += data_bytes(item.images)
        if held > MOST_DATA:
            raise Failure(
                f"the images that '{as_text(str(path))}' itself holds take more than {MOST_DATA} bytes: "
                "save them to files and name those, or take fewer with --limit"
            )
        yield item


def _askable(line: ManifestLine, seen: dict[str, int] | None = None) -> Item:
    """The question in a line, of which the images are there; raises Failure."""
    item = _read(line, _QUESTION, {} if seen is None else seen)
    if item.problem:
        raise Failure(item.problem)
    for image in item.images:
        if image.data is None and not exists(Path(image.path)):
            name, path = shortened(image.name), shortened(as_text(image.path), LONGEST_SHOWN)
            raise Failure(f"{line.where} names the image '{name}', and '{path}' does not exist")
    return item


def _of_folder(folder: Path, question: str, limit: int | None) -> Items:
    """An item for each image below a folder, and one with a problem for each folder that can't be listed."""
    shown = as_text(str(folder))
    try:
        if folder.is_file():
            raise Failure(f"'{shown}' is a file: name the folder that it is in, or use `reroute ask`")
        found = find_image_files(folder)
    except OSError as error:
        raise Failure(f"the folder '{shown}' can't be read ({error.strerror}): check the path") from error
    reasons = dict(found.unreadable)
    names = sorted([*found.images, *reasons])
    if not names:
        raise Failure(f"there is no image in '{shown}', of {found.skipped} files: name another folder")
    seen: dict[str, int] = {}
    items = []
    for name in names:
        path = os.path.join(folder, *name)  # noqa: PTH118  no Path for each of a million names
        named = as_text(path)
        why = f"the folder '{named}' can't be read ({reasons.get(name)}): check its permissions"
        items.append(
            Item(
                _unlike(as_text("/".join(name)), seen),
                (ImageSource(named, path),),
                question,
                problem=why if name in reasons else "",
            )
        )
    chosen = tuple(items[index] for index in spread(len(items), limit or len(items)))
    return Items(chosen, len(items), found.skipped)


def _read(line: ManifestLine, readers: Mapping[str, _Reader], seen: dict[str, int]) -> Item:
    """The item in a line, its problem what is wrong first. seen: ids and their lines, and now this one."""
    known: dict[str, Any] = {}
    problem = ""
    try:
        entry = line.entry()
    except Failure as error:
        entry, readers, problem = {}, {}, str(error)
    for key, reader in readers.items():
        try:
            known[key] = reader(entry, line)
        except Failure as error:
            problem = problem or str(error)
    name = known.get("id") or line.name
    if name in seen:
        problem = problem or lines.same_id(line, name, seen[name])
        name = _unlike(line.name, seen)
    seen[name] = line.number
    images = known.get("images") or (ImageSource("", ""),)
    asked = known.get("conversation") or Conversation("")
    answer, box = known.get("answer"), known.get("box")
    if box and len(images) > 1:
        problem = problem or f"{line.where} has a 'box' and {len(images)} images: a box is in one image"
    answer = asked.answer if answer is None else answer
    words = None if answer is None else Truth("words", (answer,))
    label = words if box is None else Truth("box", box=box)
    group = known.get("kind") or ""
    return Item(name, images, asked.question, label, group, asked.turns, line.where, problem)


def _kind(entry: Mapping[str, Any], _line: ManifestLine) -> str:
    """The kind of question, if the line names one; what is no text, or a long one, names none."""
    kind = entry.get("kind")
    return kind if isinstance(kind, str) and is_unicode(kind) and len(kind) <= lines.LONGEST_ID else ""


def _answer(entry: Mapping[str, Any], line: ManifestLine) -> str | None:
    """The true answer, if the line has one; raises Failure where that is no text."""
    value = entry.get("answer")
    if value is not None and not (isinstance(value, str) and value.strip() and is_unicode(value)):
        raise Failure(f"{line.where} has no text under 'answer': a line looks like {EXAMPLE}")
    return value


def _box(entry: Mapping[str, Any], line: ManifestLine) -> Box | None:
    """The true box, if the line has one: four numbers in pixels, its left upper corner first."""
    given = entry.get("box")
    if given is None:
        return None
    form = f"{line.where} has under 'box' what is no [x1, y1, x2, y2] in pixels"
    try:
        four = isinstance(given, list) and len(given) == 4
        numbers = four and all(
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            for value in given
        )
    except OverflowError:  # a whole number beyond all floats
        numbers = False
    if not numbers:
        raise Failure(f"{form}: give four numbers")
    x1, y1, x2, y2 = map(float, given)
    if x1 < 0 or y1 < 0 or x2 <= x1 or y2 <= y1:
        raise Failure(f"{form}: {shortened(given)} is not a left upper and a right lower corner")
    if max(x2, y2) <= 1:
        raise Failure(
            f"{form}: {shortened(given)} are shares of the sides, so multiply them by the image's size"
        )
    return x1, y1, x2, y2


def _unlike(name: str, seen: dict[str, int]) -> str:
    """A name that is not taken: this one, or with the first number that makes it another; it is taken now."""
    free, count = name, 1
    while free in seen:
        count += 1
        free = f"{name}#{count}"
    seen[free] = 0
    return free


_Reader: TypeAlias = Callable[[Mapping[str, Any], ManifestLine], Any]
_QUESTION: dict[str, _Reader] = {
    "id": lines.identity,
    "images": lines.images_of,
    "conversation": lines.conversation_of,
}
_READERS = _QUESTION | {"answer": _answer, "box": _box, "kind": _kind}
