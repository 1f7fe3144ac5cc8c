"""Items made ready for the model, in threads: images read, decoded and preprocessed, schedules chosen.

A file is read once: its bytes go from the digest, which the item's key needs, to the decoder. Where many
bytes wait already, or the digest was known before, the decoder reads the file, and must find the same bytes.
Each is made ready once, whatever the number of schedules that it is asked under. An item that can't be made
ready becomes one sentence. Knows pictures, prompts and schedules; runs no model.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from profiles.errors import ProfileError
from reroute_cli import run
from reroute_cli.answer import count_visual, target_of
from reroute_cli.batch_inputs import BatchItem, misplaced
from reroute_cli.batching.keys import Settings, answer_key, failure_key, settings_of
from reroute_cli.batching.prefetch import Waiting, ahead
from reroute_cli.chat import Turn, prompt_of
from reroute_cli.console.errors import CliError, Failure, sentence_of
from reroute_cli.console.output import shortened
from reroute_cli.models import Loaded
from reroute_cli.prompts import Prompt
from reroute_cli.schedules import DENSE, ScheduleChoice, Target
from routing import Schedule
from routing.errors import RoutingError

MOST_HELD = 256 << 20  # bytes of files between their digest and their decoder; the rest is read again
WORKERS = 4  # decoding lets go of Python's lock; the processor is entered by one thread at a time


@dataclass(frozen=True)
class Ask:
    """One schedule that every item is asked under, with all that is the same for all items."""

    choice: ScheduleChoice
    settings: Settings


@dataclass(frozen=True)
class Request:
    """What is asked of every item: each of `asks`. batch_size: items at most in one pass of the model."""

    loaded: Loaded
    asks: tuple[Ask, ...]
    max_new_tokens: int
    batch_size: int


def make_request(
    loaded: Loaded, choices: Sequence[ScheduleChoice], max_new_tokens: int, batch_size: int
) -> Request:
    """The request under these schedules; raises Failure where the engine refuses to route the model."""
    if loaded.refusal is not None and any(choice.name != DENSE for choice in choices):
        raise Failure(loaded.refusal)
    asks = tuple(Ask(choice, settings_of(loaded, choice, max_new_tokens)) for choice in choices)
    return Request(loaded, asks, max_new_tokens, batch_size)


@dataclass(frozen=True)
class Keys:
    """The keys of an item's answer and of its error under one schedule; done: it has the answer already."""

    answer: str
    failure: str
    done: bool = False


@dataclass(frozen=True)
class Keyed:
    """An item and its keys, one set for each ask.

    error: why it can't be asked. digests: of each image; of one that can't be read, its name. held: bytes of
    its files that `item` has in its images' data.
    """

    item: BatchItem
    keys: tuple[Keys, ...]
    error: str | None = None
    digests: tuple[str, ...] = ()
    held: int = 0

    @property
    def done(self) -> bool:
        """Whether there is nothing left to ask."""
        return all(keys.done for keys in self.keys)


@dataclass(frozen=True)
class Ready:
    """An item that the model can answer. sizes: width and height of each image.

    schedules: one for each ask, or the sentence that says why there is none.
    """

    keyed: Keyed
    sizes: tuple[tuple[int, int], ...]
    prompt: Prompt
    schedules: tuple[Schedule | str, ...]
    visual: int


@dataclass(frozen=True)
class Broken:
    """An item that can't be asked, and why, in one sentence."""

    keyed: Keyed
    error: str


Entry = Ready | Broken | Keyed  # the last where all answers are there already


def entries(
    request: Request, items: Iterable[BatchItem], is_done: Callable[[str], bool], waiting: Waiting
) -> Generator[Entry]:
    """Every item in order, made ready a few batches ahead of whoever takes them.

    waiting: counts how long that was waited for.
    """
    room = _Room(MOST_HELD)
    preparer = _Preparer(request, room)
    depth = 2 * request.batch_size + WORKERS
    return ahead(
        preparer.prepare,
        _keyed(request, ahead(_Reader(room).read, items, workers=2, depth=2 * depth), is_done),
        workers=WORKERS,
        depth=depth,
        waiting=waiting,
    )


def keyed_items(
    request: Request, items: Iterable[BatchItem], is_done: Callable[[str], bool], depth: int
) -> Iterator[Keyed]:
    """Every item in order with its keys; at most `depth` items' files are read before they are asked for.

    Of the request's model only its names are used. No bytes are kept.
    """
    return _keyed(request, ahead(_Reader(_Room(0)).read, items, workers=2, depth=depth), is_done)


class _Room:
    """Room for so many bytes, shared by threads."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Whether so many bytes fit; they are taken then."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def give(self, size: int) -> None:
        """So many bytes are free again."""
        with self._lock:
            self._left += size


class _Reader:
    """Reads one item's files at a time in each thread, and keeps the bytes where there is room."""

    def __init__(self, room: _Room) -> None:
        self._room = room

    def read(self, item: BatchItem) -> Keyed:
        """The item, not keyed yet: the digests of its images, and what is wrong with it."""
        digests: list[str] = []
        contents: list[bytes | None] = []
        error, held = item.problem or None, 0
        for image in item.images:
            digest, data = image.name, None
            try:
                digest, data = image.read()
            except Exception as failure:  # noqa: BLE001  whatever a file does, it is one item's failure
                error = error or sentence_of(failure)
            if image.data is None and data is not None:
                if error is None and self._room.take(len(data)):
                    held += len(data)
                else:
                    data = None
            digests.append(digest)
            contents.append(data)
        return Keyed(item.with_data(contents) if held else item, (), error, tuple(digests), held)


def _keyed(request: Request, found: Iterable[Keyed], is_done: Callable[[str], bool]) -> Iterator[Keyed]:
    """Items with their keys; equal ones are told apart by how many of them came before."""
    seen: Counter[tuple[tuple[str, ...], str, tuple[Turn, ...]]] = Counter()
    for read in found:
        item, digests = read.item, read.digests
        if read.error is not None:
            failures = [failure_key(ask.settings, item.id, item.image, item.question) for ask in request.asks]
            yield replace(read, keys=tuple(Keys(failure, failure) for failure in failures))
            continue
        copy = seen[digests, item.question, item.turns]
        seen[digests, item.question, item.turns] += 1
        keys = tuple(_keys(ask, item, digests, copy, is_done) for ask in request.asks)
        yield replace(read, keys=keys)


def _keys(
    ask: Ask, item: BatchItem, digests: Sequence[str], copy: int, is_done: Callable[[str], bool]
) -> Keys:
    key = answer_key(ask.settings, digests, item.question, copy, item.turns)
    return Keys(key, failure_key(ask.settings, item.id, item.image, item.question), is_done(key))


class _Preparer:
    """Makes one item ready at a time in each thread."""

    def __init__(self, request: Request, room: _Room) -> None:
        self._request, self._room = request, room
        self._processor = threading.Lock()  # tokenizers must not be entered twice at once

    def prepare(self, keyed: Keyed) -> Entry:
        """The item as it goes on: ready, broken, or done before; its images' bytes are not kept."""
        lean = replace(keyed, item=keyed.item.without_data(), held=0)
        try:
            if keyed.done:
                return lean
            return Broken(lean, keyed.error) if keyed.error is not None else self._ready(keyed, lean)
        except Exception as error:  # noqa: BLE001  one item's failure is a record, not the end of the run
            return Broken(lean, sentence_of(error))
        finally:
            self._room.give(keyed.held)

    def _ready(self, keyed: Keyed, lean: Keyed) -> Ready:
        loaded, request = self._request.loaded, self._request
        item = keyed.item
        pictures = [image.open() for image in item.images]
        for image, picture, digest in zip(item.images, pictures, keyed.digests, strict=True):
            if picture.digest != digest:
                name = shortened(image.name)
                raise Failure(f"'{name}' changed while it was read: ask again once it stays as it is")
        sizes = tuple(picture.size for picture in pictures)
        box = item.truth.box if item.truth else None
        if box is not None and (problem := misplaced(box, sizes[0])):
            raise Failure(f"{item.where or repr(item.id)}: {problem}")
        with self._processor:
            prompt = prompt_of(loaded.processor, pictures, item.question, item.turns)
        run.check_context(loaded, prompt, request.max_new_tokens)
        visual = count_visual(loaded, prompt)
        target = target_of(loaded, visual)
        schedules = tuple(_schedule(ask.choice, target) for ask in request.asks)
        return Ready(lean, sizes, prompt, schedules, visual)


def _schedule(choice: ScheduleChoice, target: Target) -> Schedule | str:
    try:
        return choice.build(target)
    except (CliError, RoutingError, ProfileError) as error:
        return sentence_of(error)
