"""Items made ready for the model, in threads: picture read, decoded and preprocessed, schedule chosen.

An item that can't be made ready becomes one sentence. Knows pictures, prompts and schedules; runs no model.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass

from reroute_cli import run
from reroute_cli.answer import count_visual, target_of
from reroute_cli.batch_inputs import BatchItem, misplaced
from reroute_cli.batching.keys import Settings, answer_key, failure_key, settings_of
from reroute_cli.batching.prefetch import Waiting, ahead
from reroute_cli.errors import Failure, sentence_of
from reroute_cli.images import digest_of, open_picture
from reroute_cli.models import Loaded
from reroute_cli.prompts import Prompt, build_prompt
from reroute_cli.schedules import ScheduleChoice
from routing import Schedule

WORKERS = 4  # decoding lets go of Python's lock; the processor is entered by one thread at a time


@dataclass(frozen=True)
class Request:
    """What is asked of every item. batch_size: items at most in one pass of the model."""

    loaded: Loaded
    choice: ScheduleChoice
    max_new_tokens: int
    batch_size: int
    settings: Settings


def make_request(loaded: Loaded, choice: ScheduleChoice, max_new_tokens: int, batch_size: int) -> Request:
    """The request with its settings."""
    settings = settings_of(loaded, choice, max_new_tokens)
    return Request(loaded, choice, max_new_tokens, batch_size, settings)


@dataclass(frozen=True)
class Keyed:
    """An item and its key; done: there is an answer already. error: why the picture has no content."""

    item: BatchItem
    key: str
    failure: str
    done: bool = False
    error: str | None = None


@dataclass(frozen=True)
class Ready:
    """An item that the model can answer. size: width and height of its picture."""

    keyed: Keyed
    size: tuple[int, int]
    prompt: Prompt
    schedule: Schedule
    visual: int


@dataclass(frozen=True)
class Broken:
    """An item that can't be asked, and why, in one sentence."""

    keyed: Keyed
    error: str


Entry = Ready | Broken | Keyed  # the last where the answer is there already


def entries(
    request: Request, items: Iterable[BatchItem], is_done: Callable[[str], bool], waiting: Waiting
) -> Generator[Entry]:
    """Every item in order, made ready a few batches ahead of whoever takes them.

    waiting: counts how long that was waited for.
    """
    preparer = _Preparer(request)
    depth = 2 * request.batch_size + WORKERS
    digests = ahead(_digest, items, workers=2, depth=2 * depth)
    return ahead(
        preparer.prepare,
        _keyed(request.settings, digests, is_done),
        workers=WORKERS,
        depth=depth,
        waiting=waiting,
    )


def _digest(item: BatchItem) -> tuple[BatchItem, str | None, str | None]:
    """An item with the digest of its picture's bytes, or with what is wrong with it."""
    if item.problem:
        return item, None, item.problem
    try:
        return item, digest_of(item.path), None
    except Exception as error:  # noqa: BLE001  whatever a file does, it is one item's failure
        return item, None, sentence_of(error)


def _keyed(
    settings: Settings,
    digests: Iterable[tuple[BatchItem, str | None, str | None]],
    is_done: Callable[[str], bool],
) -> Iterator[Keyed]:
    """Items with their keys; equal ones are told apart by how many of them came before."""
    seen: Counter[str] = Counter()
    for item, digest, error in digests:
        failure = failure_key(settings, item.id, item.image, item.question)
        if digest is None:
            yield Keyed(item, failure, failure, error=error)
            continue
        first = answer_key(settings, [digest], item.question)
        key = answer_key(settings, [digest], item.question, seen[first]) if seen[first] else first
        seen[first] += 1
        yield Keyed(item, key, failure, done=is_done(key))


class _Preparer:
    """Makes one item ready at a time in each thread."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._processor = threading.Lock()  # tokenizers must not be entered twice at once

    def prepare(self, keyed: Keyed) -> Entry:
        """The item as it goes on: ready, broken, or done before."""
        if keyed.done:
            return keyed
        if keyed.error is not None:
            return Broken(keyed, keyed.error)
        try:
            return self._ready(keyed)
        except Exception as error:  # noqa: BLE001  one item's failure is a record, not the end of the run
            return Broken(keyed, sentence_of(error))

    def _ready(self, keyed: Keyed) -> Ready:
        loaded, request = self._request.loaded, self._request
        picture = open_picture(keyed.item.path)
        if keyed.item.box is not None and (problem := misplaced(keyed.item.box, picture.size)):
            raise Failure(f"{keyed.item.where}: {problem}")
        with self._processor:
            prompt = build_prompt(loaded.processor, [picture], keyed.item.question)
        run.check_context(loaded, prompt, request.max_new_tokens)
        visual = count_visual(loaded, prompt)
        schedule = request.choice.build(target_of(loaded, visual))
        return Ready(keyed, picture.size, prompt, schedule, visual)
