"""Which questions about which pictures a run goes over: the sample scenes, named pictures, or a manifest.

A manifest has an object an item, in the forms of `conversations`, with images relative to its folder and
perhaps an `id`; more keys are ignored. It is gone over twice: once to check and count every item, once to
keep those that are chosen. Knows files; not models, schedules or what becomes of the items.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reroute_cli.chat import Turn
from reroute_cli.console.errors import CliError, Failure, UsageError
from reroute_cli.console.output import shortened
from reroute_cli.image_names import ImageSource, exists
from reroute_cli.images import LONGEST_SHOWN, as_text
from reroute_cli.manifest import Line, asked_of, identity, images_of, read_lines, same_id
from reroute_cli.prompts import check_question

MANIFEST = "manifest.jsonl"
# Of samples and manifests: a minute of the embedded model, and every kind of question of the samples.
DEFAULT_ITEMS = 12
MOST_DATA = 1 << 30  # bytes of images that a run's items hold themselves


@dataclass(frozen=True)
class Item:
    """One question about images. image: the first, as written. path: where that is. where: its line, if any.

    data: that image's bytes, where it comes from no file. others: the images after the first. turns: all that
    is said, in a chat of which the question is the end.
    """

    id: str
    image: str
    path: str
    question: str
    where: str = ""
    data: bytes | None = None
    others: tuple[ImageSource, ...] = ()
    turns: tuple[Turn, ...] = ()

    @property
    def images(self) -> tuple[ImageSource, ...]:
        """All images, in the order of the prompt."""
        return (ImageSource(self.image, self.path, self.data), *self.others)


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
        raise UsageError("pictures need a question: add -Q QUESTION")
    if question is not None and not images:
        raise UsageError("-Q asks about pictures: name them before it, or drop it")
    if question is not None:
        check_question(question)
        return _of_pictures(images, question, limit)
    return read_manifest(manifest or samples_manifest(), limit or DEFAULT_ITEMS)


def check_pictures(items: Sequence[Item]) -> None:
    """Open every picture once, before anything large is loaded; raises Failure for the first that is none."""
    for item in items:
        with told(item):
            for image in item.images:
                image.open()


@contextmanager
def told(item: Item) -> Iterator[None]:
    """Say which item it is that something is wrong with; what a manifest says wrong is a Failure."""
    try:
        yield
    except CliError as error:
        typed = isinstance(error, UsageError) and not item.where
        if typed or (not item.where and item.path in str(error)):
            raise
        raise Failure(f"{item.where or repr(shortened(item.image))}: {error}") from error


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
    available, lines = 0, read_lines(path)
    for line in lines:
        _item(line)
        available += 1
    wanted = set(spread(available, limit))
    items: list[Item] = []
    held, seen = 0, dict[str, int]()
    for line in (line for index, line in enumerate(lines) if index in wanted):
        item = _item(line)
        if item.id in seen:
            raise Failure(same_id(line, item.id, seen[item.id]))
        seen[item.id] = line.number
        items.append(item)
        held += data_bytes(item.images)
        check_data(held, path)
    return Items(tuple(items), available)


def data_bytes(images: Iterable[ImageSource]) -> int:
    """How many bytes of these images are held in memory, for they come from no file."""
    return sum(len(image.data) for image in images if image.data is not None)


def check_data(held: int, path: Path) -> None:
    """Refuse a manifest whose chosen items hold more bytes of images than fit (raises Failure)."""
    if held > MOST_DATA:
        raise Failure(
            f"the images that '{as_text(str(path))}' itself holds take more than {MOST_DATA} bytes: "
            "save them to files and name those, or take fewer with --limit"
        )


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


def _item(line: Line) -> Item:
    """The item in a line, of which the images are there; raises Failure."""
    entry = line.entry()
    images, asked = images_of(entry, line), asked_of(entry, line)
    for image in images:
        if image.data is None and not exists(Path(image.path)):
            name, path = shortened(image.name), shortened(as_text(image.path), LONGEST_SHOWN)
            raise Failure(f"{line.where} names the picture '{name}', and '{path}' does not exist")
    first, *others = images
    return Item(
        id=identity(entry, line),
        image=first.name,
        path=first.path,
        question=asked.question,
        where=line.where,
        data=first.data,
        others=tuple(others),
        turns=asked.turns,
    )
