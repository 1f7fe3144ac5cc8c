"""What a prompt costs, dense or routed: FLOPs and KV-cache bytes as integers, by arithmetic from shapes.

2 FLOPs per multiply-add; attention counts the full L x L, no causal halving: the conventions of torch's FLOP
counter, which the tests hold this file to, integer for integer. What a layer of each kind computes is in
families/layer_shapes.py. Scoring is a line of its own: what ranking adds to the layers' own work. A deciding
layer takes the keys that it needs from those projected for the ranking, so that only the keys of tokens it
does not process are added, with the asking rows; one whose queries and keys cannot be had alone runs all its
projections on all ranked tokens. A layer without attention leaves the ranking to the nearest one behind it.
Knows no torch and no model weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from routing.grids import PatchGrid
from routing.methods import SCORERS, SELECTIONS
from routing.methods.selection import Sizes
from routing.model_shape import ModelShape
from routing.schedule import Action, Pool, Schedule

__all__ = [
    "Cost",
    "ModelShape",
    "PlanCost",
    "PromptSize",
    "cost",
    "decode_flops",
    "kv_bytes",
    "layer_flops",
    "layer_widths",
    "lm_head_flops",
    "plan",
    "schedule_scoring_flops",
    "scoring_flops",
]


@dataclass(frozen=True)
class PromptSize:
    """One sample of a batch: text tokens (markers and template included) and visual tokens.

    asked: text tokens behind the last visual one, for rankings that read them; None: all are.
    """

    text: int
    visual: int
    asked: int | None = None

    @property
    def behind(self) -> int:
        """Text tokens behind the last visual one."""
        return self.text if self.asked is None else self.asked


@dataclass(frozen=True)
class Cost:
    """What one batch of prompts costs. FLOPs and bytes are of the whole batch.

    vision_flops: None where the tower is not modelled or no grids were given. prefill_flops: decoder
    layers and one lm_head position a sample, scoring not included. scoring_flops: ranking in the decoder.
    anchor_flops: what a choice before the decoder itself computes, for one picture a prompt exactly; 0
    without one, None where it cannot be told. kv_bytes: keys and values stored per layer after the prefill.
    widths: sequence positions each layer processes (the longest sample; shorter ones are padded to it).
    """

    vision_flops: int | None
    prefill_flops: int
    scoring_flops: int
    anchor_flops: int | None
    decode_flops: int
    kv_bytes: tuple[int, ...]
    widths: tuple[int, ...]


@dataclass(frozen=True)
class PlanCost:
    """A schedule's cost beside the dense model's."""

    dense: Cost
    routed: Cost

    @property
    def prefill_ratio(self) -> float:
        """Routed prefill FLOPs, ranking included as far as it is known, over dense ones; no vision tower."""
        ranking = self.routed.scoring_flops + (self.routed.anchor_flops or 0)
        return (self.routed.prefill_flops + ranking) / self.dense.prefill_flops

    @property
    def kv_ratio(self) -> float:
        """Routed KV bytes over dense ones, after the prefill."""
        return sum(self.routed.kv_bytes) / sum(self.dense.kv_bytes)


def plan(
    shape: ModelShape,
    schedule: Schedule,
    prompts: Sequence[PromptSize],
    *,
    new_tokens: int = 1,
    element_bytes: int = 2,
    grids: Sequence[PatchGrid] | None = None,
) -> PlanCost:
    """The cost of a batch of prompts under a schedule, beside the same batch dense.

    new_tokens: answer length of each sample; the first new token comes out of the prefill. element_bytes:
    of the KV cache (2 for float16 and bfloat16). grids: patch grids of every picture of the batch, for the
    vision line.
    """
    return PlanCost(
        cost(shape, Schedule(), prompts, new_tokens, element_bytes, grids),
        cost(shape, schedule, prompts, new_tokens, element_bytes, grids),
    )


def cost(
    shape: ModelShape,
    schedule: Schedule,
    prompts: Sequence[PromptSize],
    new_tokens: int = 1,
    element_bytes: int = 2,
    grids: Sequence[PatchGrid] | None = None,
) -> Cost:
    """The cost of a batch of prompts under one schedule; `Schedule()` is dense. Arguments as for `plan`."""
    batch, widths = len(prompts), layer_widths(schedule, prompts, len(shape.layers))
    length = max(prompt.text + prompt.visual for prompt in prompts)
    inputs = 2 * length * shape.hidden * shape.inputs
    layers = sum(_prefill_flops(shape, schedule, prompt.visual, widths) for prompt in prompts)
    return Cost(
        vision_flops=None if shape.tower is None or grids is None else shape.tower.flops(grids),
        prefill_flops=layers + batch * (inputs + lm_head_flops(shape)),
        scoring_flops=schedule_scoring_flops(shape, schedule, prompts),
        anchor_flops=_anchor_flops(shape, schedule, prompts, grids),
        decode_flops=batch * decode_flops(shape, widths, new_tokens),
        kv_bytes=tuple(
            batch * layer.kv_bytes(width, element_bytes)
            for layer, width in zip(shape.layers, widths, strict=True)
        ),
        widths=widths,
    )


def _prefill_flops(shape: ModelShape, schedule: Schedule, visual: int, widths: Sequence[int]) -> int:
    """The decoder layers of one sample with `visual` visual tokens, padded to the widths of its batch."""
    kept = schedule.tokens_per_layer(visual, len(shape.layers))
    return sum(
        layer.prefill_flops(widths[index if layer.source is None else layer.source], kept[index])
        for index, layer in enumerate(shape.layers)
    )


def _anchor_flops(
    shape: ModelShape,
    schedule: Schedule,
    prompts: Sequence[PromptSize],
    grids: Sequence[PatchGrid] | None,
) -> int | None:
    """Of all pictures of the batch, each by itself; at the entrance of the decoder, of all prompts."""
    stage, tower = schedule.vision, shape.tower
    if stage is None or stage.keep_ratio == 1.0:
        return 0
    selection = SELECTIONS[stage.selection]

    def chosen(tokens: int, width: int, **more: int) -> int:
        kept = schedule.counts(tokens, len(shape.layers))[0]
        return 0 if kept == tokens else selection.flops(Sizes(tokens, width, kept, **more), stage)

    if not selection.at_the_tower:
        return sum(chosen(one.visual, shape.hidden, text=one.behind) for one in prompts)
    if tower is None or tower.repacked or grids is None:
        return None
    needs = selection.asked(stage)
    more = {"keys": tower.hidden // tower.heads, "states": tower.states}
    return sum(
        tower.asked_flops(grid, needs) + chosen(tower.visual_tokens([grid]), tower.width, **more)
        for grid in grids
    )


def layer_widths(schedule: Schedule, prompts: Sequence[PromptSize], layers: int) -> tuple[int, ...]:
    """Sequence positions each decoder layer processes: the longest sample's text and kept visual tokens."""
    each = [
        [prompt.text + kept for kept in schedule.tokens_per_layer(prompt.visual, layers)]
        for prompt in prompts
    ]
    return tuple(max(widths) for widths in zip(*each, strict=True))


def layer_flops(shape: ModelShape, queries: int, keys: int, layer: int = 0) -> int:
    """One decoder layer on `queries` new positions that attend to `keys` positions, for one sample.

    layer: which one.
    """
    return shape.layers[layer].flops(queries, keys)


def lm_head_flops(shape: ModelShape, positions: int = 1) -> int:
    """The vocabulary projection; generation asks for the last position only."""
    return 2 * positions * shape.hidden * shape.vocab


def decode_flops(shape: ModelShape, stored: Sequence[int], new_tokens: int) -> int:
    """All decode steps after the prefill, for one sample: new_tokens - 1 of them.

    stored: positions each layer processed in the prefill; one with a window attends to no more than that.
    """
    sources = [index if layer.source is None else layer.source for index, layer in enumerate(shape.layers)]
    steps = range(1, new_tokens)
    layers = sum(
        layer.decode_flops(stored[source] + step)
        for step in steps
        for layer, source in zip(shape.layers, sources, strict=True)
    )
    return layers + len(steps) * (lm_head_flops(shape) + 2 * shape.hidden * shape.inputs)


def scoring_flops(shape: ModelShape, length: int, rows: int = 1, own: int = 0, layer: int = 0) -> int:
    """What one decision adds, for one sample: keys of `length` positions, `rows` queries, their products.

    own: positions whose keys need no projection for the ranking, since the layer itself makes use of them.
    layer: the one that ranks, or has the nearest attention behind it rank.
    """
    return shape.ranking(layer)[1].ranking_flops(length, rows, own)


def schedule_scoring_flops(shape: ModelShape, schedule: Schedule, prompts: Sequence[PromptSize]) -> int:
    """All decisions of a schedule, of the whole batch. A stage that leaves no choice is not scored.

    Rerouting scores the full sequence, pruning what is left of it. No layer projects a key twice. Where the
    text behind the visual tokens asks, the batch has as many asking rows as its longest such text, and it is
    rated once, by one product with all that enters the decoder. Merging is each sample's own.
    """
    scorer, total, merged, projected = SCORERS[schedule.scorer], 0, 0, set()
    rows = scorer.asking(prompt.behind for prompt in prompts)
    widths = layer_widths(schedule, prompts, len(shape.layers))
    everything = [prompt.visual for prompt in prompts]
    per_sample = [schedule.counts(prompt.visual, len(shape.layers)) for prompt in prompts]
    entries = [everything, *(list(entry) for entry in zip(*per_sample, strict=True))]  # kept, per sample
    for number, stage in enumerate(schedule.stages, len(entries) - 1 - len(schedule.stages)):
        before, after = entries[number], entries[number + 1]
        anchors_only = number == 1 and schedule.vision is not None and schedule.pool is Pool.ANCHORS
        candidates = before if schedule.action is Action.PRUNE or anchors_only else everything
        scored_by = stage.ranking_layer
        pairs = zip(before, after, strict=True)
        merged += sum(scorer.merge_flops(n, kept, shape.hidden) for n, kept in pairs if kept < n)
        if scorer.looks and (scored_by < stage.layer or after not in (everything, candidates)):
            seen = before if schedule.action is Action.PRUNE else everything
            length = max(prompt.text + count for prompt, count in zip(prompts, seen, strict=True))
            ranking_layer, attention = shape.ranking(scored_by)
            changed = scorer.merge is not None and scored_by == stage.layer  # before the layer has its keys
            own = widths[scored_by] if ranking_layer == scored_by and not changed else 0
            total += attention.ranking_flops(length, rows, length if scored_by in projected else own)
            total += scorer.flops(length, shape.hidden)
            if scorer.level:
                total += 2 * rows * length * attention.key_width
            projected.add(scored_by)
    if scorer.rate is not None and projected:
        total += 2 * max(prompt.text + prompt.visual for prompt in prompts) * rows * shape.hidden
    return len(prompts) * total + merged


def kv_bytes(shape: ModelShape, positions: int, element_bytes: int = 2, layer: int = 0) -> int:
    """What the cache holds of one layer after `positions` positions of one sample. layer: which one."""
    return shape.layers[layer].kv_bytes(positions, element_bytes)
