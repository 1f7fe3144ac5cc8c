"""The batch engine: prompts gathered into passes and answered, whatever fails; and a run of items through it.

Items are taken in order and handed out one record after the other. Where several schedules are asked, a
batch, or what was gathered to be sorted into several, goes through all of them before the next one (A B A B).
Knows items and passes; not files, nor what becomes of a record.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from reroute_cli.console.errors import is_out_of_memory, sentence_of
from reroute_cli.measure import passes
from reroute_cli.measure.estimate import CostModel, Sample, kv_layers, kv_share
from reroute_cli.measure.memory import measure_kv
from reroute_cli.records.answer import AnswerRecord, FailedAnswer, KvPart, TurnPart
from reroute_cli.run.answer import (
    boxes_in,
    environment_part,
    generation_part,
    latency_part,
    measured_kv,
    model_part,
    schedule_part,
    text_of,
    tokens_part,
)
from reroute_cli.run.features import FeatureStore, PassFeatures
from reroute_cli.run.prepare import (
    GATHERED,
    BatchRequest,
    KeyedItem,
    Keys,
    PreparedItem,
    Waiting,
    prepared_items,
)
from reroute_cli.run.prompts import PreparedPrompt, begin_alike
from reroute_cli.run.stages import visual_per_layer
from routing.cost import PromptSize

if TYPE_CHECKING:
    from reroute_cli.data.items import Item
    from reroute_cli.data.prompts import Prompt
    from reroute_cli.measure.clock import TokenClock
    from reroute_cli.models.load import Loaded
    from reroute_cli.records.store import RecordFile

_FITTING = 8  # batches that fit in a row, before larger ones are tried again
_PADDED = 0.1  # share of padding in a pass from which on more prompts are waited for
_OF_ORIGINAL = {"logical_tokens", "dense_kv_end_bytes"}  # of a cache, where images were made smaller
_NO_MEMORY = "one pass over many items measures no item's memory; ask does"
Entry = TypeVar("Entry")


class BatchSize:
    """How many prompts go together now: as many as asked, or fewer for a while after one did not fit."""

    def __init__(self, asked: int) -> None:
        self.now = self._asked = asked
        self._fitted = 0

    def fits(self) -> None:
        """A batch of this size went well."""
        self._fitted += 1
        if self._fitted >= _FITTING and self.now < self._asked:
            self.now, self._fitted = min(self._asked, 2 * self.now), 0

    def too_large(self, prompts: int) -> None:
        """A batch of so many prompts did not fit."""
        self.now, self._fitted = min(self.now, (prompts + 1) // 2), 0


class BatchEngine:
    """Answers prompts in passes of one model, each prompt as if it were alone.

    A batch that does not fit the device is cut in two and tried again, and the next ones stay that small
    until eight of them have fitted; whatever else fails is cut down in the same way to the one prompt that is
    to blame.
    """

    def __init__(self, loaded: Loaded, batch_size: int, store: FeatureStore | None = None) -> None:
        self._loaded, self._batch_size, self._store = loaded, batch_size, store
        self._size = BatchSize(batch_size)

    def answers(self, prompts: Sequence[PreparedPrompt]) -> Iterator[PassAnswer | str]:
        """What each prompt got, in order, or why nothing, in one sentence.

        Those of one kind share passes, as many as fit now, with those that are nearest to them in length.
        """
        waiting: dict[Hashable, list[int]] = {}  # places of what is not answered yet, the shortest first
        for place in sorted(range(len(prompts)), key=lambda place: prompts[place].prompt.tokens):
            waiting.setdefault(prompts[place].kind, []).append(place)
        running: dict[int, Iterator[tuple[int, PassAnswer | str]]] = {}  # the pass of each place
        found: dict[int, PassAnswer | str] = {}
        for place, prompt in enumerate(prompts):
            if place not in running:
                alike, size = waiting[prompt.kind], self._size.now
                first = alike.index(place) // size * size
                together = sorted(alike[first : first + size])
                del alike[first : first + size]
                made = zip(together, self._halved([prompts[one] for one in together], 0), strict=True)
                running |= dict.fromkeys(together, made)
            while place not in found:
                found |= [next(running[place])]
            yield found.pop(place)

    def _halved(self, prompts: list[PreparedPrompt], halvings: int) -> Iterator[PassAnswer | str]:
        """What each prompt of a batch got; each half is handed out before the next one is tried."""
        try:
            features = None if self._store is None else self._store.for_pass()
            made = answer_pass(
                self._loaded, prompts, halvings, measured=self._batch_size == 1, features=features
            )
        except Exception as error:  # noqa: BLE001  one prompt's failure is its own, not the end of the run
            problem, too_large = sentence_of(error), is_out_of_memory(error)
        else:
            self._size.fits()
            yield from made
            return
        if too_large:  # nothing of the failed pass is alive any more: give what it left back to the device
            self._size.too_large(len(prompts))
            gc.collect()
            if self._loaded.device.startswith("cuda"):
                import torch

                torch.cuda.empty_cache()
        if len(prompts) == 1:
            yield problem
            return
        middle = (len(prompts) + 1) // 2
        for half in (prompts[:middle], prompts[middle:]):
            yield from self._halved(half, halvings + too_large)


def gathered(
    entries: Iterable[Entry], size: int, describe: Callable[[Entry], tuple[Hashable, int] | None]
) -> Iterator[list[Entry]]:
    """Entries in order, gathered until they fill passes of `size`: one, or several where they are unlike.

    Unlike are entries of several kinds, and lengths of which a pass would be padding for more than a tenth.

    describe: what entries of one pass share, and tokens; None for an entry that needs no pass.
    """
    group: list[Entry] = []
    kinds: set[Hashable] = set()
    lengths: list[int] = []
    for entry in entries:
        group.append(entry)
        if (found := describe(entry)) is not None:
            kinds.add(found[0])
            lengths.append(found[1])
        whole = len(lengths) % size == 0
        alike = whole and len(kinds) == 1 and padding(lengths, size) <= _PADDED
        if not lengths or alike or len(lengths) == GATHERED * size:
            yield group
            group, kinds, lengths = [], set(), []
    yield group


def padding(lengths: Sequence[int], size: int) -> float:
    """The share of padding in passes of `size` prompts, each of those nearest in length."""
    ordered = sorted(lengths)
    passes = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    return 1 - sum(ordered) / sum(len(one) * one[-1] for one in passes)


@dataclass(frozen=True)
class Outcome:
    """What became of an item under one ask, given by its place.

    record: None where there was an answer before this run. digests: of the item's images, see `KeyedItem`.
    """

    item: Item
    ask: int
    keys: Keys
    record: AnswerRecord | FailedAnswer | None
    digests: tuple[str, ...] = ()

    def keep(self, file: RecordFile) -> str:
        """Write the record where it is new; returns the key that the file knows it by."""
        if self.record is not None:
            file.append(self.record.as_dict())
        key = self.keys.answer if self.record is None else self.record.key
        file.supersede(self.keys.failure, key)
        return key


class BatchRun:
    """One run over items: iterate `outcomes`; `waiting` says how long the device had nothing to do.

    store: of encoded images, where runs share one; otherwise the run has its own.
    """

    workers = 1  # processes with a model

    def __init__(self, request: BatchRequest, store: FeatureStore | None = None) -> None:
        self._request = request
        self._costs = CostModel.of(request.loaded)
        self.store = FeatureStore(request.feature_cache, request.loaded.device) if store is None else store
        self._engines = [BatchEngine(request.loaded, request.batch_size, self.store) for _ in request.asks]
        self.waiting = Waiting()

    def outcomes(self, items: Iterable[Item], is_done: Callable[[str], bool]) -> Generator[Outcome]:
        """What becomes of every item, batch by batch, ask by ask, each time in the items' order."""
        with closing(prepared_items(self._request, items, is_done, self.waiting)) as made:
            for group in gathered(made, self._request.batch_size, lambda entry: entry.described):
                made_for = (prompt for entry in group for prompt in entry.prompts)
                self.store.expect(one.schedule for one in made_for if isinstance(one, PreparedPrompt))
                for ask in range(len(self._request.asks)):
                    yield from self.under(ask, group)

    def under(self, ask: int, group: Sequence[PreparedItem]) -> Iterator[Outcome]:
        """The outcome of each item of a group under one ask."""
        prompts = [None if entry.keyed.keys[ask].done else entry.prompts[ask] for entry in group]
        open_ones = [prompt for prompt in prompts if isinstance(prompt, PreparedPrompt)]
        answers = self._engines[ask].answers(open_ones)
        for entry, prompt in zip(group, prompts, strict=True):
            keyed = entry.keyed
            found = next(answers) if isinstance(prompt, PreparedPrompt) else prompt
            record: AnswerRecord | FailedAnswer | None = None
            if isinstance(found, str):
                record = failed(self._request, ask, keyed, found)
            elif found is not None:
                assert isinstance(prompt, PreparedPrompt)
                try:
                    record = self._record(ask, entry, prompt, found)
                except Exception as error:  # noqa: BLE001  one answer that can't be read fails alone
                    record = failed(self._request, ask, keyed, sentence_of(error))
            yield Outcome(keyed.item, ask, keyed.keys[ask], record, keyed.digests)

    def _record(
        self, ask: int, entry: PreparedItem, prepared: PreparedPrompt, found: PassAnswer
    ) -> AnswerRecord:
        """The record of an answered item."""
        request, loaded, item = self._request, self._request.loaded, entry.keyed.item
        row, prompt = found.row, prepared.prompt
        text = text_of(loaded, row)
        boxes, reasons = boxes_in(text, loaded, entry.sizes, prompt, prepared.shrunk)
        asked = original = self._sample(prepared.original, prepared.original_visual, entry.sizes)
        if prepared.shrunk is not None:
            smaller = [image.size for image in prepared.shrunk.part.images]
            asked = self._sample(prompt, prepared.visual, smaller)
        return AnswerRecord(
            id=item.id,
            key=entry.keyed.keys[ask].answer,
            image=item.image,
            images=[image.name for image in item.images],
            question=item.question,
            turns=turn_parts(item),
            answer=text,
            boxes=boxes,
            model=model_part(loaded),
            environment=environment_part(loaded),
            generation=generation_part(loaded, request.max_new_tokens),
            schedule=schedule_part(request.asks[ask].choice, prepared, row.stages, loaded.layers),
            tokens=tokens_part(prepared, row, loaded.layers),
            flops=self._costs.flops(prepared.schedule, asked, len(row.new), original),
            kv_cache=found.kv,
            latency=latency_part(
                prompt,
                found.clock,
                len(row.new),
                found.batch_size,
                found.halvings,
                shared_prefix=found.shared_prefix,
                reused_s=found.reused_vision_s,
            ),
            memory=None,
            reasons=reasons | {"memory": _NO_MEMORY},
        )

    def _sample(self, prompt: Prompt, visual: int, sizes: Sequence[tuple[int, int]]) -> Sample:
        """A prompt with this many visual tokens of images of these sizes, in numbers."""
        behind = prompt.behind(self._request.loaded.image_token_ids)
        return Sample(PromptSize(prompt.tokens - visual, visual, behind), sizes)


def failed(request: BatchRequest, ask: int, keyed: KeyedItem, reason: str) -> FailedAnswer:
    """The record of an item that has no answer under one ask, and why."""
    item = keyed.item
    return FailedAnswer(
        id=item.id,
        key=keyed.keys[ask].failure,
        image=item.image,
        images=[image.name for image in item.images],
        question=item.question,
        turns=turn_parts(item),
        model=model_part(request.loaded),
        environment=environment_part(request.loaded),
        generation=generation_part(request.loaded, request.max_new_tokens),
        error=reason,
    )


def turn_parts(item: Item) -> list[TurnPart]:
    """The turns of a chat, as records have them; [] where there is but a question."""
    return [TurnPart.model_validate(turn.message()) for turn in item.turns]


@dataclass(frozen=True)
class PassAnswer:
    """What one prompt of a pass got. kv: its part of the cache. clock: of all tokens of the pass.

    batch_size: prompts of the pass. halvings: how often a batch that did not fit was cut in two before it.
    shared_prefix: the images that all of them begin with were computed once.
    reused_vision_s: seconds, when it was done, of encoding the images that the pass did not have to encode.
    """

    row: passes.SampleAnswer
    kv: KvPart
    clock: TokenClock
    batch_size: int
    halvings: int
    shared_prefix: bool
    reused_vision_s: float = 0.0


def answer_pass(
    loaded: Loaded,
    prompts: Sequence[PreparedPrompt],
    halvings: int,
    *,
    measured: bool,
    features: PassFeatures | None = None,
) -> list[PassAnswer]:
    """Answer prompts of one kind together; raises what the model raises.

    measured: the cache is that of one prompt and its bytes are counted; of several they are estimated.
    features: of images that were encoded before; None where the vision tower runs for all.
    """
    inputs = collate([one.prompt.inputs for one in prompts], passes.pad_token(loaded))
    shared = begin_alike(loaded, prompts)
    job = passes.Job(loaded, passes.on_device(inputs, loaded.model), prompts[0].schedule, shared, features)
    timed = passes.timed_rows(job, prompts[0].max_new_tokens)
    layers = kv_layers(timed.cache)
    reused_s = 0.0 if features is None else features.seconds
    answers = []
    for one, row in zip(prompts, timed.rows, strict=True):
        new = len(row.new) - 1  # the last new token is not stored
        others = one.prompt.tokens - one.visual + new
        kept = visual_per_layer(row.stages, one.visual, len(layers))
        kv = kv_share(layers, [others + visual for visual in kept], one.original.tokens + new)
        if measured:
            found = measured_kv(measure_kv(timed.cache))
            dense = {} if one.shrunk is None else kv.model_dump(include=_OF_ORIGINAL)
            kv = found.model_copy(update=dense)
        answers.append(PassAnswer(row, kv, timed.clock, len(prompts), halvings, shared, reused_s))
    return answers


def collate(prompts: Sequence[Mapping[str, Any]], pad: int) -> dict[str, Any]:
    """One batch of B prompts, each the inputs of one: input_ids (1, L) and whatever else its family has.

    Tensors of the shape of input_ids are padded on the left (input_ids with `pad`, the others with 0). All
    others are joined along their first dimension; where the rest of their shapes differ (tiles, pixels of
    images of several sizes) zeros are appended, as the processors of these families do for a batch.
    """
    names = list(prompts[0])
    assert all(set(prompt) == set(names) for prompt in prompts), "prompts of one model have the same inputs"
    made: dict[str, Any] = {}
    for name in names:
        values = [prompt[name] for prompt in prompts]
        if isinstance(values[0], list):
            made[name] = [part for value in values for part in value]
        elif not isinstance(values[0], Tensor):
            made[name] = values[0]
        elif all(prompt[name].shape == prompt["input_ids"].shape for prompt in prompts):
            made[name] = _padded(values, pad if name == "input_ids" else 0)
        else:
            made[name] = _stacked(values)
    if "attention_mask" not in made:
        made["attention_mask"] = _padded([torch.ones_like(prompt["input_ids"]) for prompt in prompts], 0)
    return made


def _padded(rows: Sequence[Tensor], fill: int) -> Tensor:
    """(B, L) of rows (1, L_b), the shorter ones behind `fill`."""
    width = max(row.shape[1] for row in rows)
    made = rows[0].new_full((len(rows), width), fill)
    for index, row in enumerate(rows):
        made[index, width - row.shape[1] :] = row[0]
    return made


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    """Parts below one another, each with zeros appended up to the largest of every later dimension."""
    rest = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    if all(list(part.shape[1:]) == rest for part in parts):
        return torch.cat(list(parts))
    made = parts[0].new_zeros((sum(len(part) for part in parts), *rest))
    start = 0
    for part in parts:
        made[(slice(start, start + len(part)), *(slice(size) for size in part.shape[1:]))] = part
        start += len(part)
    return made
