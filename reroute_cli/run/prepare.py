"""Items made ready for the model, in threads: images read, decoded and preprocessed, schedules chosen.

A file is read once: its bytes go from the digest, which the item's key needs, to the decoder. Where many
bytes wait already, or the digest was known before, the decoder reads the file, and must find the same bytes.
Each item is made ready once, whatever the number of schedules that it is asked under, and a few batches ahead
of whoever takes it. An item that can't be made ready becomes one sentence. Knows images, prompts and
schedules; runs no model.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

from profiles.errors import ProfileError
from reroute_cli.console.errors import CliError, Failure, sentence_of
from reroute_cli.console.output import shortened
from reroute_cli.data.items import Item, misplaced
from reroute_cli.data.prompts import Turn, prompt_of
from reroute_cli.measure import passes
from reroute_cli.run.answer import Settings, answer_key, failure_key, settings_of
from reroute_cli.run.prompts import PreparedPrompt, count_visual, prepared
from routing.errors import RoutingError

if TYPE_CHECKING:
    from reroute_cli.data.images import Picture
    from reroute_cli.data.prompts import Prompt
    from reroute_cli.models.load import Loaded
    from reroute_cli.run.schedules import ScheduleChoice

MOST_HELD = 256 << 20  # bytes of files between their digest and their decoder; the rest is read again
GATHERED = 4  # batches, at most, of unlike prompts that are sorted into passes together
WORKERS = 4  # decoding lets go of Python's lock; the processor is entered by one thread at a time
Given = TypeVar("Given")
Made = TypeVar("Made")


class Waiting:
    """Seconds that somebody waited for what was not there yet."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def over(self, made: Generator[Made]) -> Generator[Made]:
        """The same results; the time until each is there counts, whatever took it."""
        with closing(made):
            while True:
                start = perf_counter()
                try:
                    result = next(made)
                except StopIteration:
                    return
                finally:
                    self.seconds += perf_counter() - start
                yield result


def ahead(
    work: Callable[[Given], Made], things: Iterable[Given], *, workers: int, depth: int
) -> Generator[Made]:
    """`work` of every thing, in order, done in threads; at most `depth` are begun before they are asked for.

    The things themselves are taken one by one in the caller's thread. Closing the iterator, or an exception,
    drops what was not begun.
    """
    pending = deque[Future[Made]]()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="reroute-ahead")
    try:
        for thing in things:
            pending.append(pool.submit(work, thing))
            if len(pending) >= depth:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class Ask:
    """One schedule that every item is asked under, with all that is the same for all items."""

    choice: ScheduleChoice
    settings: Settings


@dataclass(frozen=True)
class BatchRequest:
    """What is asked of every item: each of `asks`. batch_size: items at most in one pass of the model.

    feature_cache: bytes in which encoded images are kept, see features.py.
    """

    loaded: Loaded
    asks: tuple[Ask, ...]
    max_new_tokens: int
    batch_size: int
    feature_cache: int = 0


def make_request(
    loaded: Loaded,
    choices: Sequence[ScheduleChoice],
    max_new_tokens: int,
    batch_size: int,
    feature_cache: int = 0,
) -> BatchRequest:
    """The request under these schedules; raises Failure where the engine refuses to route the model."""
    if loaded.refusal is not None and any(choice.routes for choice in choices):
        raise Failure(loaded.refusal)
    asks = tuple(Ask(choice, settings_of(loaded, choice, max_new_tokens)) for choice in choices)
    return BatchRequest(loaded, asks, max_new_tokens, batch_size, feature_cache)


@dataclass(frozen=True)
class Keys:
    """The keys of an item's answer and of its error under one schedule; done: it has the answer already."""

    answer: str
    failure: str
    done: bool = False


@dataclass(frozen=True)
class KeyedItem:
    """An item and its keys, one set for each ask.

    error: why it can't be asked. digests: of each image; of one that can't be read, its name. held: bytes of
    its files that `item` has in its images' data.
    """

    item: Item
    keys: tuple[Keys, ...]
    error: str | None = None
    digests: tuple[str, ...] = ()
    held: int = 0

    @property
    def done(self) -> bool:
        """Whether there is nothing left to ask."""
        return all(keys.done for keys in self.keys)


@dataclass(frozen=True)
class PreparedItem:
    """An item, and for each ask its prompt, or the sentence that says why it has none.

    prompts: None for each ask where all answers are there already. sizes: width and height of each image.
    """

    keyed: KeyedItem
    prompts: tuple[PreparedPrompt | str | None, ...]
    sizes: tuple[tuple[int, int], ...] = ()

    @property
    def described(self) -> tuple[Hashable, int] | None:
        """What items that share passes under all asks have in common, and tokens of the longest prompt.

        None where the model is not needed.
        """
        kinds = [one.kind if isinstance(one, PreparedPrompt) else one for one in self.prompts]
        tokens = [one.prompt.tokens for one in self.prompts if isinstance(one, PreparedPrompt)]
        return (tuple(kinds), max(tokens)) if tokens else None


def prepared_items(
    request: BatchRequest, items: Iterable[Item], is_done: Callable[[str], bool], waiting: Waiting
) -> Generator[PreparedItem]:
    """Every item in order, made ready ahead of whoever takes them: as many as may be sorted together next.

    waiting: counts how long that was waited for.
    """
    room = ByteRoom(MOST_HELD)
    preparer = _Preparer(request, room)
    depth = GATHERED * request.batch_size + WORKERS
    keyed = keyed_items(request, items, is_done, 2 * depth, room)
    return waiting.over(ahead(preparer.prepare, keyed, workers=WORKERS, depth=depth))


class ByteRoom:
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


def keyed_items(
    request: BatchRequest, items: Iterable[Item], is_done: Callable[[str], bool], depth: int, room: ByteRoom
) -> Iterator[KeyedItem]:
    """Every item in order with its keys; at most `depth` items' files are read before they are asked for.

    Equal items are told apart by how many of them came before. room: for the files' bytes, which are kept as
    far as they fit. Of the request's model only its names are used.
    """

    seen: Counter[tuple[tuple[str, ...], str, tuple[Turn, ...]]] = Counter()
    for found in ahead(partial(_read, room=room), items, workers=2, depth=depth):
        item, digests = found.item, found.digests
        same = (digests, item.question, item.turns)
        keys = []
        for ask in request.asks:
            failure = failure_key(ask.settings, item.id, item.image, item.question)
            if found.error is not None:
                keys.append(Keys(failure, failure))
                continue
            key = answer_key(ask.settings, digests, item.question, seen[same], item.turns)
            keys.append(Keys(key, failure, is_done(key)))
        if found.error is None:
            seen[same] += 1
        yield replace(found, keys=tuple(keys))


def _read(item: Item, room: ByteRoom) -> KeyedItem:
    """The item, not keyed yet: the digests of its images, their bytes where there is room, what is wrong."""
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
            if error is None and room.take(len(data)):
                held += len(data)
            else:
                data = None
        digests.append(digest)
        contents.append(data)
    return KeyedItem(item.with_data(contents) if held else item, (), error, tuple(digests), held)


class _Preparer:
    """Makes one item ready at a time in each thread."""

    def __init__(self, request: BatchRequest, room: ByteRoom) -> None:
        self._request, self._room = request, room
        self._processor = threading.Lock()  # tokenizers must not be entered twice at once

    def prepare(self, keyed: KeyedItem) -> PreparedItem:
        """The item with its prompts, or why it has none; its images' bytes are not kept."""
        lean, asks = replace(keyed, item=keyed.item.without_data(), held=0), len(self._request.asks)
        try:
            if keyed.done:
                return PreparedItem(lean, (None,) * asks)
            if keyed.error is not None:
                return PreparedItem(lean, (keyed.error,) * asks)
            return self._prepared(keyed, lean)
        except Exception as error:  # noqa: BLE001  one item's failure is a record, not the end of the run
            return PreparedItem(lean, (sentence_of(error),) * asks)
        finally:
            self._room.give(keyed.held)

    def _prepared(self, keyed: KeyedItem, lean: KeyedItem) -> PreparedItem:
        loaded, most, item = self._request.loaded, self._request.max_new_tokens, keyed.item
        pictures = [image.open() for image in item.images]
        for image, picture, digest in zip(item.images, pictures, keyed.digests, strict=True):
            if picture.digest != digest:
                name = shortened(image.name)
                raise Failure(f"'{name}' changed while it was read: ask again once it stays as it is")
        sizes = tuple(picture.size for picture in pictures)
        box = item.label.box if item.label else None
        if box is not None and (problem := misplaced(box, sizes[0])):
            raise Failure(f"{item.where or repr(item.id)}: {problem}")

        def make(images: Sequence[Picture]) -> Prompt:
            with self._processor:
                return prompt_of(loaded.processor, images, item.question, item.turns)

        prompt = make(pictures)
        passes.check_context(loaded, prompt, most)
        count_visual(loaded, prompt)
        prompts: list[PreparedPrompt | str] = []
        for ask in self._request.asks:
            try:
                prompts.append(prepared(loaded, ask.choice, pictures, make, prompt, most))
            except (CliError, RoutingError, ProfileError) as error:
                prompts.append(sentence_of(error))
        return PreparedItem(lean, tuple(prompts), sizes)
