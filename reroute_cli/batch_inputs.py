"""The items of a batch run: the images of a folder, or those of a manifest with what is true of them.

Unlike the items of a measurement, all are taken, and none stops the run: what is no item is one with a
`problem`. Pictures are not opened here. Knows files; not models, schedules or records.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reroute_cli import manifest as lines
from reroute_cli.boxes import Box
from reroute_cli.chat import Turn
from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.output import shortened
from reroute_cli.conversations import Asked, is_unicode
from reroute_cli.image_names import ImageSource
from reroute_cli.images import as_text
from reroute_cli.inputs import check_data, data_bytes, spread
from reroute_cli.judges import Truth
from reroute_cli.manifest import Line
from reroute_cli.picture_files import Name, find_pictures
from reroute_cli.prompts import check_question


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One question about images.

    id: the manifest's, or the image's path in the folder; no two items of a run share it.
    image: the first image as it is named, as text. path: where to open it.
    truth: what a right answer is, where that is known. group: the benchmark's or manifest's kind of question.
    data: the first image's bytes, where it comes from no file. others: the images after the first.
    turns: all that is said, in a chat of which the question is the end; () where that is the question alone.
    where: its line, as sentences name it; "" in a folder.
    problem: the sentence that says why this can't be asked, or ""; the other fields are what could be read.
    """

    id: str
    image: str
    path: str
    question: str
    truth: Truth | None = None
    group: str = ""
    where: str = ""
    problem: str = ""
    data: bytes | None = None
    others: tuple[ImageSource, ...] = ()
    turns: tuple[Turn, ...] = ()

    @property
    def images(self) -> tuple[ImageSource, ...]:
        """All images, in the order of the prompt."""
        return (ImageSource(self.image, self.path, self.data), *self.others)

    def read(self) -> BatchItem:
        """The item with the bytes of all its images, so that no file is read again; raises Failure."""
        return self.with_data([image.content() for image in self.images])

    def with_data(self, contents: Sequence[bytes | None]) -> BatchItem:
        """The item with its images' bytes in order, as far as they are given."""
        pairs = zip(self.images, contents, strict=True)
        first, *others = (image if data is None else replace(image, data=data) for image, data in pairs)
        return replace(self, data=first.data, others=tuple(others))

    def without_data(self) -> BatchItem:
        """The item without its images' bytes, to keep."""
        return replace(self, data=None, others=tuple(image.without_data() for image in self.others))


@dataclass(frozen=True)
class BatchItems:
    """What a run goes over. skipped: files of the folder that are no pictures, and hidden ones."""

    items: tuple[BatchItem, ...]
    skipped: int


def batch_items(
    folder: Path | None, question: str | None, manifest: Path | None, limit: int | None
) -> BatchItems:
    """The items that the options ask for, or `limit` of them, spread evenly; raises UsageError or Failure."""
    if folder is not None and manifest is not None:
        raise UsageError("a manifest names its own pictures: drop --manifest or drop the folder")
    if manifest is not None:
        if question is not None:
            raise UsageError("a manifest has its own questions: drop -Q or drop --manifest")
        return BatchItems(tuple(_of_manifest(manifest, limit)), 0)
    if folder is None:
        raise UsageError("there is nothing to ask about: name a folder of pictures, or give --manifest FILE")
    if question is None:
        raise UsageError("a folder needs a question: add -Q QUESTION")
    check_question(question)
    return _of_folder(folder, question, limit)


def misplaced(box: Box, size: tuple[int, int]) -> str:
    """Why a true box can't belong to a picture of this width and height, as a sentence; "" where it can."""
    width, height = size
    if box[2] <= width + 1 and box[3] <= height + 1:  # the last pixel may be rounded up
        return ""
    return (
        f"the true box {list(box)} reaches out of the picture, which is {width} × {height}: give pixels of it"
    )


def _of_folder(folder: Path, question: str, limit: int | None) -> BatchItems:
    shown = as_text(str(folder))
    try:
        if folder.is_file():
            raise Failure(f"'{shown}' is a file: name the folder that it is in, or use `reroute ask`")
        found = find_pictures(folder)
    except OSError as error:
        raise Failure(f"the folder '{shown}' can't be read ({error.strerror}): check the path") from error
    reasons = dict(found.unreadable)
    names = sorted([*found.pictures, *reasons])
    if not names:
        raise Failure(f"there is no picture in '{shown}', of {found.skipped} files: name another folder")
    seen: dict[str, int] = {}
    items = [_picture(folder, name, question, seen, reasons.get(name)) for name in names]
    return BatchItems(tuple(items[index] for index in spread(len(items), limit or len(items))), found.skipped)


def _picture(folder: Path, name: Name, question: str, seen: dict[str, int], reason: str | None) -> BatchItem:
    """A picture of a folder; or, with the reason why it can't be listed, a folder in it."""
    path = os.path.join(folder, *name)  # noqa: PTH118  no Path for each of a million names
    shown = as_text(path)
    return BatchItem(
        id=_unlike(as_text("/".join(name)), seen),
        image=shown,
        path=path,
        question=question,
        problem=f"the folder '{shown}' can't be read ({reason}): check its permissions" if reason else "",
    )


def _of_manifest(path: Path, limit: int | None) -> Iterator[BatchItem]:
    """All lines are read, so that an id is known to be a second one whichever lines are chosen."""
    found = lines.read_lines(path)
    available = sum(1 for _ in found)
    wanted = set(spread(available, limit)) if limit else None
    seen: dict[str, int] = {}
    held = 0
    for index, line in enumerate(found):
        item = _item(line, seen)
        if wanted is None or index in wanted:
            held += data_bytes(item.images)
            check_data(held, path)
            yield item


def _item(line: Line, seen: dict[str, int]) -> BatchItem:
    """The item in a line; `seen` are ids with their lines, and gets this one's."""
    known, problem = _read(line)
    name = known.get("id") or line.name
    if name in seen:
        problem = problem or lines.same_id(line, name, seen[name])
        name = _unlike(line.name, seen)
    seen[name] = line.number
    first, *others = known.get("images") or (ImageSource("", ""),)
    if known.get("box") and others:
        problem = problem or f"{line.where} has a 'box' and {len(others) + 1} images: a box is in one image"
    asked = known.get("asked") or Asked("")
    answer = known.get("answer")
    return BatchItem(
        id=name,
        image=first.name,
        path=first.path,
        question=asked.question,
        truth=_truth(asked.answer if answer is None else answer, known.get("box")),
        group=known.get("kind") or "",
        where=line.where,
        problem=problem,
        data=first.data,
        others=tuple(others),
        turns=asked.turns,
    )


def _read(line: Line) -> tuple[dict[str, Any], str]:
    """What could be read of a line, by key, and the first thing that is wrong with it."""
    known: dict[str, Any] = {}
    problems: list[str] = []
    try:
        entry = line.entry()
    except Failure as error:
        return known, str(error)
    for key, reader in _KEYS.items():
        try:
            known[key] = reader(entry, line)
        except Failure as error:
            problems.append(str(error))
    return known, problems[0] if problems else ""


def _truth(answer: str | None, box: Box | None) -> Truth | None:
    """A box where there is one, else words."""
    if box is not None:
        return Truth("box", box=box)
    return None if answer is None else Truth("words", (answer,))


def _kind(entry: dict[str, Any], _line: Line) -> str:
    """The kind of question, if the line names one; what is no text, or a long one, names none."""
    kind = entry.get("kind")
    return kind if isinstance(kind, str) and is_unicode(kind) and len(kind) <= lines.LONGEST_ID else ""


def _answer(entry: dict[str, Any], line: Line) -> str | None:
    """The true answer, if the line has one: text."""
    return None if entry.get("answer") is None else lines.text(entry, "answer", line)


def _box(entry: dict[str, Any], line: Line) -> Box | None:
    """The true box, if the line has one: four numbers in pixels, its left upper corner first."""
    given = entry.get("box")
    if given is None:
        return None
    form = f"{line.where} has under 'box' what is no [x1, y1, x2, y2] in pixels"
    if not isinstance(given, list) or len(given) != 4 or not all(_is_number(value) for value in given):
        raise Failure(f"{form}: give four numbers")
    x1, y1, x2, y2 = map(float, given)
    if x1 < 0 or y1 < 0 or x2 <= x1 or y2 <= y1:
        raise Failure(f"{form}: {shortened(given)} is not a left upper and a right lower corner")
    if max(x2, y2) <= 1:
        raise Failure(
            f"{form}: {shortened(given)} are shares of the sides, so multiply them by the picture's size"
        )
    return x1, y1, x2, y2


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _unlike(name: str, seen: dict[str, int]) -> str:
    """A name that is not taken: this one, or with the first number that makes it another; it is taken now."""
    free, count = name, 1
    while free in seen:
        count += 1
        free = f"{name}#{count}"
    seen[free] = 0
    return free


_KEYS: dict[str, Callable[[dict[str, Any], Line], Any]] = {
    "id": lines.identity,
    "images": lines.images_of,
    "asked": lines.asked_of,
    "answer": _answer,
    "box": _box,
    "kind": _kind,
}
