"""One pass of the model over several prompts: their inputs as one batch, and what each of them got.

Every prompt was prepared by itself, so that a bad one spoils no other and a batch can be cut in two at any
time. Knows prompts, tensors and their names; not items, images, nor which prompts go together.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reroute_cli.data.prompts import Prompt
from reroute_cli.measure import passes
from reroute_cli.measure.clock import TokenClock
from reroute_cli.measure.estimate import kv_layers, kv_share
from reroute_cli.measure.memory import measure_kv
from reroute_cli.models.load import Loaded
from reroute_cli.records.answer import KvPart
from reroute_cli.run.answer import measured_kv, visual_per_layer
from routing import Schedule


@dataclass(frozen=True)
class PreparedPrompt:
    """A prompt that the model can answer. visual: how many of its tokens are visual tokens."""

    prompt: Prompt
    visual: int
    schedule: Schedule
    max_new_tokens: int

    @property
    def kind(self) -> Hashable:
        """What all prompts of one pass have in common."""
        return self.schedule, self.max_new_tokens, frozenset(self.prompt.inputs)


@dataclass(frozen=True)
class PassAnswer:
    """What one prompt of a pass got. kv: its part of the cache. clock: of the whole pass.

    batch_size: prompts of the pass. halvings: how often a batch that did not fit was cut in two before it.
    """

    row: passes.SampleAnswer
    kv: KvPart
    clock: TokenClock
    batch_size: int
    halvings: int


def answer_pass(
    loaded: Loaded, prompts: Sequence[PreparedPrompt], halvings: int, *, measured: bool
) -> list[PassAnswer]:
    """Answer prompts of one kind together; raises what the model raises.

    measured: the cache is that of one prompt and its bytes are counted; of several they are estimated.
    """
    inputs = collate([one.prompt.inputs for one in prompts], passes.pad_token(loaded))
    job = passes.Job(loaded, passes.on_device(inputs, loaded.model), prompts[0].schedule)
    timed = passes.timed_rows(job, prompts[0].max_new_tokens)
    layers = kv_layers(timed.cache)
    answers = []
    for one, row in zip(prompts, timed.rows, strict=True):
        others = one.prompt.tokens - one.visual + len(row.new) - 1  # the last new token is not stored
        if measured:
            kv = measured_kv(measure_kv(timed.cache))
        else:
            kept = visual_per_layer(row.stages, one.visual, len(layers))
            kv = kv_share(layers, [others + visual for visual in kept], others + one.visual)
        answers.append(PassAnswer(row, kv, timed.clock, len(prompts), halvings))
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
