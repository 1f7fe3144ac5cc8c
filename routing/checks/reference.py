"""Two slow references for a routed prefill and what follows it, for one unpadded sample.

`by_gathering` runs every decoder layer by hand on the tokens it processes; `by_masking` runs every layer at
full length, hides the other tokens as keys and puts their hidden states back. Scores are read off the layer's
own eager attention. Decoding is recomputed from the first token, without any cache. Written from the
specification; imports nothing of the engine and knows nothing of caches, batches or lasting hooks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

NEVER = -1e30
Kept = tuple[int, ...]
Reference = Callable[..., "Expected"]  # by_gathering or by_masking


@dataclass(frozen=True)
class Cut:
    """One stage: at the input of `layer`, keep `keep_ratio` of the visual tokens, ranked by `scored_by`."""

    layer: int
    keep_ratio: float
    scored_by: int | None = None


@dataclass(frozen=True)
class Expected:
    """Kept visual indices per stage, tokens processed per layer, last logits, scores per stage."""

    kept: tuple[tuple[int, ...], ...]
    lengths: tuple[int, ...]
    logits: torch.Tensor
    scores: tuple[torch.Tensor | None, ...] = ()
    every: torch.Tensor | None = None  # (L, vocabulary), from stale states where left out


@dataclass(frozen=True)
class Dense:
    """What the unhooked model hands its layers: per layer the input (L, d), the mask (L, L), the rest."""

    hidden: tuple[torch.Tensor, ...]
    masks: tuple[torch.Tensor, ...]
    rotary: tuple[torch.Tensor, torch.Tensor]
    positions: torch.Tensor | None


def decoder(model: Any) -> Any:
    """The language model inside: the owner of `.layers` and `.norm`."""
    return model.model.text_model if hasattr(model.model, "text_model") else model.model.language_model


def _additive(mask: torch.Tensor | None, length: int) -> torch.Tensor:
    if mask is None:
        mask = torch.ones(length, length, dtype=torch.bool).tril()
    mask = mask.reshape(length, length)
    return torch.zeros(length, length).masked_fill(~mask, NEVER) if mask.dtype == torch.bool else mask.clone()


@torch.no_grad()
def dense(model: Any, inputs: dict[str, Any]) -> Dense:
    """Run the unhooked model once and note what every decoder layer is given."""
    calls: list[tuple[torch.Tensor, dict[str, Any]]] = []
    layers = decoder(model).layers
    handles = [
        layer.register_forward_pre_hook(lambda _, a, k: calls.append((a[0][0], k)), with_kwargs=True)
        for layer in layers
    ]
    try:
        model(**inputs, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    length = calls[0][0].shape[0]
    first = calls[0][1]
    return Dense(
        tuple(hidden for hidden, _ in calls),
        tuple(_additive(given["attention_mask"], length) for _, given in calls),
        first["position_embeddings"],
        first.get("position_ids"),
    )


def _arguments(seen: Dense, rows: list[int], mask: torch.Tensor) -> dict[str, Any]:
    positions = seen.positions
    return {
        "position_embeddings": tuple(part[:1, rows] for part in seen.rotary),
        "position_ids": None if positions is None else positions[..., rows],
        "attention_mask": mask[rows][:, rows][None, None],
    }


@contextlib.contextmanager
def _eager(attention: Any) -> Iterator[None]:
    before = attention.config._attn_implementation
    attention.config._attn_implementation = "eager"
    try:
        yield
    finally:
        attention.config._attn_implementation = before


def score(module: Any, hidden: torch.Tensor, arguments: dict[str, Any]) -> torch.Tensor:
    """Attention probability that the last row gives every row, averaged over heads: (rows,)."""
    with _eager(module.self_attn):
        normed = module.input_layernorm(hidden)[None]
        weights = module.self_attn(normed, **arguments)[1]
    found: torch.Tensor = weights[0, :, -1].float().mean(0)
    return found


def _choose(
    scores: torch.Tensor | None, candidates: list[int], visual: int, keep_ratio: float
) -> tuple[int, ...]:
    count = min(max(1, int(visual * keep_ratio)), len(candidates)) if visual else 0
    assert scores is not None
    rank = scores.tolist()
    best = sorted(candidates, key=lambda index: (-rank[index], index))
    return tuple(sorted(best[:count]))


class _Run:
    """One pass over the decoder; `gather` says whether tokens left out are cut away or masked."""

    def __init__(self, model: Any, inputs: dict[str, Any], reroute: bool, gather: bool) -> None:
        ids = inputs["input_ids"][0]
        self.model, self.layers = model, decoder(model).layers
        self.seen, self.reroute, self.gather = dense(model, inputs), reroute, gather
        self.everything = list(range(len(ids)))
        self.visual = (ids == model.config.image_token_id).nonzero().flatten().tolist()
        self.alive = self.everything
        self.candidates = list(range(len(self.visual)))

    def scores(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        """(V,) scores by that layer on its input; the keys are all tokens, under prune the survivors."""
        keys = self.everything if self.reroute else self.alive
        mask = self.seen.masks[layer].clone()
        rows = keys
        if not self.gather:
            rows = self.everything
            mask[:, sorted(set(rows) - set(keys))] = NEVER
        given = _arguments(self.seen, rows, mask)
        found = score(self.layers[layer], hidden[rows], given)
        spread = torch.zeros(len(self.everything)).index_put((torch.tensor(rows),), found)
        return spread[self.visual]

    def cut(
        self, scores: torch.Tensor | None, keep_ratio: float, kept: tuple[int, ...] | None
    ) -> tuple[int, ...]:
        """Choose (or take) the kept visual tokens and leave the others out from here on."""
        if kept is None:
            kept = _choose(scores, self.candidates, len(self.visual), keep_ratio)
        if not self.reroute:
            self.candidates = list(kept)
        gone = set(self.visual) - {self.visual[index] for index in kept}
        self.alive = [place for place in self.everything if place not in gone]
        return kept

    def layer(self, number: int, hidden: torch.Tensor) -> torch.Tensor:
        """Input of the next layer: tokens left out pass by unchanged."""
        mask, rows = self.seen.masks[number], self.alive
        if not self.gather:
            rows, gone = self.everything, sorted(set(self.everything) - set(self.alive))
            mask = mask.clone()
            mask[:, gone] = NEVER
            mask[gone, gone] = 0.0
        given = _arguments(self.seen, rows, mask)
        output = self.layers[number](hidden[rows][None], **given)[0]
        result = hidden.clone()
        result[self.alive] = output if self.gather else output[self.alive]
        return result


@torch.no_grad()
def _run(
    model: Any,
    inputs: dict[str, Any],
    cuts: tuple[Cut, ...],
    reroute: bool,
    gather: bool,
    fixed: tuple[tuple[int, ...], ...] | None,
) -> Expected:
    run = _Run(model, inputs, reroute, gather)
    first = min((cut.layer for cut in cuts), default=0)
    pending: dict[int, torch.Tensor] = {}
    kept, lengths, used = [], [], []
    for number in range(len(run.layers)):
        if number <= first:
            hidden = run.seen.hidden[number]
        for stage, cut in enumerate(cuts):
            if cut.layer == number:
                if fixed is None and stage not in pending:
                    pending[stage] = run.scores(number, hidden)
                known = None if fixed is None else fixed[stage]
                kept.append(run.cut(pending.get(stage), cut.keep_ratio, known))
                used.append(pending.get(stage))
        for stage, cut in enumerate(cuts):
            if fixed is None and cut.scored_by == number < cut.layer:
                pending[stage] = run.scores(number, hidden)
        lengths.append(len(run.alive))
        hidden = run.layer(number, hidden)
    logits = model.lm_head(decoder(model).norm(hidden))
    return Expected(tuple(kept), tuple(lengths), logits[-1], tuple(used), logits)


def by_gathering(
    model: Any,
    inputs: dict[str, Any],
    cuts: tuple[Cut, ...],
    reroute: bool,
    fixed: tuple[Kept, ...] | None = None,
) -> Expected:
    """Every layer on the tokens it processes; `fixed` gives the kept sets instead of choosing them."""
    return _run(model, inputs, cuts, reroute, True, fixed)


def by_masking(
    model: Any,
    inputs: dict[str, Any],
    cuts: tuple[Cut, ...],
    reroute: bool,
    fixed: tuple[Kept, ...] | None = None,
) -> Expected:
    """Every layer at full length, tokens left out hidden as keys and their states restored."""
    return _run(model, inputs, cuts, reroute, False, fixed)


def extended(inputs: dict[str, Any], tokens: list[int]) -> dict[str, Any]:
    """The same inputs with text tokens appended to the one sample."""
    more = torch.tensor([tokens], dtype=torch.long)
    result = dict(inputs)
    result["input_ids"] = torch.cat([inputs["input_ids"], more], 1)
    fill = {"attention_mask": 1, "mm_token_type_ids": 0, "token_type_ids": 1}
    for name, value in fill.items():
        if name in inputs:
            result[name] = torch.cat([inputs[name], torch.full_like(more, value).to(inputs[name])], 1)
    return result


def greedy(
    model: Any,
    inputs: dict[str, Any],
    cuts: tuple[Cut, ...],
    reroute: bool,
    new: int,
    method: Reference = by_gathering,
) -> tuple[Expected, list[int]]:
    """The routed prefill and `new` greedy tokens, each by recomputing all with the prompt's kept sets."""
    prefill = method(model, inputs, cuts, reroute)
    tokens = [int(prefill.logits.argmax())]
    while len(tokens) < new:
        tokens.append(int(after(model, inputs, cuts, reroute, prefill.kept, tokens, method).argmax()))
    return prefill, tokens


def after(
    model: Any,
    inputs: dict[str, Any],
    cuts: tuple[Cut, ...],
    reroute: bool,
    kept: tuple[Kept, ...],
    tokens: list[int],
    method: Reference = by_gathering,
) -> torch.Tensor:
    """Logits of the last of `tokens` after the routed prompt; text after the prompt is always kept."""
    return method(model, extended(inputs, tokens), cuts, reroute, kept).logits
