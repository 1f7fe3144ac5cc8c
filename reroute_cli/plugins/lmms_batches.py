"""Requests in batches: prepared ahead in threads, answered together, handed out one by one in their order.

Neighbours share a pass where schedule, longest answer and kinds of inputs are the same. A pass that does not
fit the device is cut in two and tried again; whatever else fails is cut down to the one request to blame.
Knows chats, models and schedules; nothing of lmms-eval, nor what becomes of an answer.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

from reroute_cli import run
from reroute_cli.answer import target_of, text_of
from reroute_cli.batching.collate import collate
from reroute_cli.batching.costs import KvLayer, kv_layers, kv_share
from reroute_cli.batching.loop import BatchSize
from reroute_cli.batching.prefetch import ahead
from reroute_cli.batching.prepare import WORKERS
from reroute_cli.chat import Chat, build_chat, picture
from reroute_cli.console.errors import Failure, is_out_of_memory, sentence_of
from reroute_cli.models import Loaded
from reroute_cli.outcome import average_visual, visual_per_layer
from reroute_cli.plugins.lmms_generation import cut
from reroute_cli.prompts import Prompt
from reroute_cli.schedules import ScheduleChoice
from routing import Schedule

_ROOM = 32  # lengths that the context cuts short are multiples of it, so that neighbours share a pass


@dataclass(frozen=True)
class Wish:
    """One request: what is said to the model, how long the answer may get, and where it ends before.

    chat: or the sentence that says why there is none.
    """

    name: str
    chat: Chat | str
    most: int
    until: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What one request got. error: why there is no answer, or "".

    prompt, visual, new: tokens. average: visual tokens per decoder layer. kv, dense_kv: bytes at the end, by
    arithmetic. seconds: its share of its pass. escaped: a control token was in the question. shortened: the
    context had no room for an answer as long as was allowed.
    """

    text: str = ""
    error: str = ""
    prompt: int = 0
    visual: int = 0
    new: int = 0
    average: float = 0.0
    kv: int = 0
    dense_kv: int = 0
    seconds: float = 0.0
    escaped: bool = False
    shortened: bool = False


@dataclass(frozen=True)
class Ready:
    """A request that the model can answer. most: new tokens at most, as the context has room for."""

    wish: Wish
    prompt: Prompt
    schedule: Schedule
    visual: int
    most: int
    escaped: bool

    def joins(self, other: Ready | str) -> bool:
        """Whether one pass can answer both."""
        if isinstance(other, str):
            return False
        mine, theirs = ((one.schedule, one.most, set(one.prompt.inputs)) for one in (self, other))
        return mine == theirs


class Answering:
    """Answers requests with one model under one schedule."""

    def __init__(self, loaded: Loaded, choice: ScheduleChoice, batch_size: int) -> None:
        self._loaded, self._choice = loaded, choice
        self._size = BatchSize(batch_size)
        self._batch_size = batch_size
        self._processor = threading.Lock()  # tokenizers must not be entered twice at once

    def answers(self, wishes: Iterable[Wish]) -> Generator[Answer]:
        """An answer for each request, in order; what is wrong with one is its error."""
        depth = 2 * self._batch_size + WORKERS
        with closing(ahead(self._prepared, wishes, workers=WORKERS, depth=depth)) as made:
            group: list[Ready] = []
            for entry in made:
                if group and not (len(group) < self._batch_size and group[0].joins(entry)):
                    yield from self._through(group)
                    group = []
                if isinstance(entry, Ready):
                    group.append(entry)
                else:
                    yield Answer(error=entry)
            yield from self._through(group)

    def prepare(self, wish: Wish) -> Ready:
        """The request with prompt and schedule; raises what is wrong with it."""
        loaded = self._loaded
        if isinstance(wish.chat, str):
            raise Failure(wish.chat)
        given = wish.chat.pictures
        pixels = [picture(one, f"picture {index} of {wish.name}") for index, one in enumerate(given, 1)]
        with self._processor:
            built = build_chat(loaded.processor, wish.chat, pixels)
        run.check_context(loaded, built.prompt, 1)
        visual = built.prompt.count(loaded.image_token_ids)
        if pixels and not visual:
            raise Failure(f"the processor of '{loaded.name}' made no visual tokens that its config knows of")
        schedule = self._choice.build(target_of(loaded, visual))
        return Ready(wish, built.prompt, schedule, visual, self._room(built.prompt, wish.most), built.escaped)

    def _prepared(self, wish: Wish) -> Ready | str:
        """The request made ready, or the sentence that says why it can't be."""
        try:
            return self.prepare(wish)
        except Exception as error:  # noqa: BLE001  one request's failure is its own, not the end of the run
            return sentence_of(error)

    def _room(self, prompt: Prompt, most: int) -> int:
        """New tokens at most, where the model's positions end before."""
        limit = getattr(self._loaded.model.config.get_text_config(), "max_position_embeddings", None)
        room = limit - prompt.tokens if limit else most
        if most <= room:
            return most
        return room - room % _ROOM if room > _ROOM else room

    def _through(self, group: list[Ready]) -> Iterator[Answer]:
        """An answer for each of a group, as many in a pass as fit now."""
        rest = iter(group)
        while batch := list(islice(rest, self._size.now)):
            yield from self._halved(batch)

    def _halved(self, items: list[Ready]) -> Iterator[Answer]:
        """An answer for each of a batch; where it fails, for each of its halves."""
        made = self._attempt(items)
        if isinstance(made, list):
            yield from made
        elif len(items) == 1:
            yield Answer(error=made)
        else:
            middle = (len(items) + 1) // 2
            yield from self._halved(items[:middle])
            yield from self._halved(items[middle:])

    def _attempt(self, items: list[Ready]) -> list[Answer] | str:
        """The answers, or what went wrong: nothing of a failed pass is alive when this returns."""
        try:
            made = self._pass(items)
        except Exception as error:  # noqa: BLE001  one request's failure is its own, not the end of the run
            problem, too_large = sentence_of(error), is_out_of_memory(error)
        else:
            self._size.fits()
            return made
        if too_large:
            self._size.too_large(len(items))
            _free(self._loaded.device)
        return problem

    def _pass(self, items: list[Ready]) -> list[Answer]:
        """One pass of the model; raises what the model raises."""
        loaded = self._loaded
        inputs = collate([item.prompt.inputs for item in items], run.pad_token(loaded))
        job = run.Job(loaded, run.on_device(inputs, loaded.model), items[0].schedule)
        timed = run.timed_rows(job, items[0].most)
        layers, seconds = kv_layers(timed.cache), timed.clock.end_to_end / len(items)
        rows = zip(items, timed.rows, strict=True)
        return [self._answer(item, row, layers, seconds) for item, row in rows]

    def _answer(self, item: Ready, row: run.Row, layers: Sequence[KvLayer], seconds: float) -> Answer:
        others = item.prompt.tokens - item.visual + len(row.new) - 1  # the last token is not stored
        tokens = [others + kept for kept in visual_per_layer(row.stages, item.visual, len(layers))]
        kv = kv_share(layers, tokens, others + item.visual)
        return Answer(
            text=cut(text_of(self._loaded, row), item.wish.until),
            prompt=item.prompt.tokens,
            visual=item.visual,
            new=len(row.new),
            average=average_visual(row.stages, item.visual, self._loaded.layers),
            kv=kv.kv_end_bytes,
            dense_kv=kv.dense_kv_end_bytes,
            seconds=seconds,
            escaped=item.escaped,
            shortened=item.most < item.wish.most,
        )


def _free(device: str) -> None:
    """Give what a failed pass left behind back to the device."""
    gc.collect()
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()
