"""Two slow references for a routed prefill and what follows it, for one unpadded sample.

`by_gathering` runs every decoder layer by hand on the tokens it processes; `by_masking` runs every layer at
full length, hides the other tokens as keys and puts their hidden states back. Scores are read off the layer's
own eager attention. Decoding is recomputed from the first token, without any cache. Written from the
specification; imports nothing of the engine and knows nothing of caches, batches or lasting hooks.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from routing.checks.copies import placeholder_ids

NEVER = -1e30
WITHOUT_MASK = ("linear_attention", "conv", "mamba", "mlp", "moe")  # layers that are told of padding alone
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
    """What the unhooked model hands its layers: per layer the input (L, d), its other arguments, the mask.

    masks: additive (L, L); None where the layer is told of padding alone.
    """

    hidden: tuple[torch.Tensor, ...]
    calls: tuple[dict[str, Any], ...]
    masks: tuple[torch.Tensor | None, ...]

    @property
    def rotary(self) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin of the first layer, (B | 1, L, r)."""
        rotary: tuple[torch.Tensor, torch.Tensor] = self.calls[0]["position_embeddings"]
        return rotary


def decoder(model: Any) -> Any:
    """The language model inside: the owner of as many `.layers` as its config says."""
    text = model.config.get_text_config()
    return next(
        module
        for module in model.modules()
        if getattr(getattr(module, "config", None), "model_type", None) == text.model_type
        and len(getattr(module, "layers", ())) == text.num_hidden_layers
    )


def _additive(mask: torch.Tensor | None, length: int, device: torch.device) -> torch.Tensor:
    if mask is None:
        mask = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    mask = mask.reshape(length, length)
    if mask.dtype != torch.bool:
        return mask.clone()
    return torch.zeros(length, length, device=device).masked_fill(~mask, NEVER)


@torch.no_grad()
def dense(model: Any, inputs: dict[str, Any]) -> Dense:
    """Run the unhooked model once and note what every decoder layer is given."""
    found: list[tuple[torch.Tensor, dict[str, Any]]] = []
    owner = decoder(model)
    names = [list(inspect.signature(type(layer).forward).parameters)[1:] for layer in owner.layers]

    def note(_layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = {**dict(zip(names[len(found)], args, strict=False)), **kwargs}
        found.append((_alone(given.pop("hidden_states")), given))

    handles = [layer.register_forward_pre_hook(note, with_kwargs=True) for layer in owner.layers]
    try:
        model(**inputs, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    length, device = found[0][0].shape[0], found[0][0].device
    kinds = getattr(owner.config, "layer_types", None) or [""] * len(found)
    masks = [
        None if kind in WITHOUT_MASK else _additive(given.get("attention_mask"), length, device)
        for kind, (_, given) in zip(kinds, found, strict=True)
    ]
    return Dense(tuple(hidden for hidden, _ in found), tuple(given for _, given in found), tuple(masks))


def _alone(hidden: torch.Tensor) -> torch.Tensor:
    """Hidden states of the only sample, by rows: (L, d), or (L, n, d) where streams come as (n, 1, L, d)."""
    return hidden[0] if hidden.ndim == 3 else hidden[:, 0].transpose(0, 1)


def _batched(hidden: torch.Tensor) -> torch.Tensor:
    """What `_alone` was given."""
    return hidden[None] if hidden.ndim == 2 else hidden.transpose(0, 1)[:, None]


def _cut(value: Any, rows: list[int], length: int) -> Any:
    """Of a layer's argument, the rows: of every axis as long as the prompt."""
    if isinstance(value, tuple):
        return tuple(_cut(part, rows, length) for part in value)
    if not isinstance(value, torch.Tensor):
        return value
    for axis, size in enumerate(value.shape):
        if size == length:
            value = value.index_select(axis, torch.tensor(rows, device=value.device))
    return value


@contextlib.contextmanager
def _eager(module: Any) -> Iterator[None]:
    configs = {id(part.config): part.config for part in module.modules() if hasattr(part, "config")}
    before = {key: config._attn_implementation for key, config in configs.items()}
    for config in configs.values():
        config._attn_implementation = "eager"
    try:
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation = before[key]


def attention_of(module: Any, hidden: torch.Tensor, arguments: dict[str, Any]) -> torch.Tensor | None:
    """Attention probability that every row gives every row: (heads, rows, rows).

    Read off what the parts of the whole eager layer return; None where none of them returns attention.
    """
    rows = hidden.shape[0]
    told: list[torch.Tensor] = []

    def note(_part: Any, _args: Any, output: Any) -> None:
        values = output if isinstance(output, tuple) else ()
        square = (rows, rows)
        told.extend(v for v in values if isinstance(v, torch.Tensor) and v.shape[2:] == square)

    handles = [part.register_forward_hook(note) for part in module.modules()]
    try:
        with _eager(module):
            module(_batched(hidden), **arguments)
    finally:
        for handle in handles:
            handle.remove()
    return told[0][0].float() if told else None


def score(module: Any, hidden: torch.Tensor, arguments: dict[str, Any]) -> torch.Tensor | None:
    """Attention probability that the last row gives every row, averaged over heads: (rows,)."""
    seen = attention_of(module, hidden, arguments)
    return None if seen is None else seen[:, -1].mean(0)


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
        self.visual = (ids == placeholder_ids(model.config)[0]).nonzero().flatten().tolist()
        self.alive = self.everything
        self.candidates = list(range(len(self.visual)))
        self.shared: dict[int, Any] = {}

    def given(self, layer: int, rows: list[int], mask: torch.Tensor | None) -> dict[str, Any]:
        """The arguments of a layer on some rows. Dictionaries, in which layers share keys, are this run's."""
        given = {
            name: _cut(value, rows, len(self.everything)) for name, value in self.seen.calls[layer].items()
        }
        for name, value in given.items():
            if isinstance(value, dict):
                given[name] = self.shared.setdefault(id(value), type(value)())
        if mask is not None:
            given["attention_mask"] = mask[rows][:, rows][None, None]
        return given

    def scores(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        """(V,) scores by that layer, or the next of full attention, on the input of `layer`.

        The keys are all tokens, under prune the survivors.
        """
        keys = self.everything if self.reroute else self.alive
        for asked in range(layer, len(self.layers)):
            seen = self.seen.masks[asked]
            if seen is None or (asked > layer and (seen[-1] < 0).any()):
                continue
            mask = seen.clone()
            rows = keys
            if not self.gather:
                rows = self.everything
                mask[:, sorted(set(rows) - set(keys))] = NEVER
            found = score(self.layers[asked], hidden[rows], self.given(asked, rows, mask))
            if found is not None:
                spread = torch.zeros(len(self.everything), device=found.device)
                spread[rows] = found
                return spread[self.visual]
        raise AssertionError(f"no layer from {layer} on has attention")

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
            assert mask is not None, "a state runs over all tokens: it can't be hidden from some"
            rows, gone = self.everything, sorted(set(self.everything) - set(self.alive))
            mask = mask.clone()
            mask[:, gone] = NEVER
            mask[gone, gone] = 0.0
        output = self.layers[number](_batched(hidden[rows]), **self.given(number, rows, mask))
        output = _alone(output[0] if isinstance(output, tuple) else output)
        result = hidden.clone()
        result[self.alive] = output if self.gather else output[self.alive]
        return result


def _logits(model: Any, inputs: dict[str, Any], hidden: torch.Tensor) -> torch.Tensor:
    """(L, vocabulary): what the unhooked model makes of these outputs of its last layer."""

    def replaced(_layer: Any, _args: Any, output: Any) -> Any:
        return (_batched(hidden), *output[1:]) if isinstance(output, tuple) else _batched(hidden)

    handle = decoder(model).layers[-1].register_forward_hook(replaced)
    try:
        logits: torch.Tensor = model(**inputs, use_cache=False).logits[0]
    finally:
        handle.remove()
    return logits


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
    logits = _logits(model, inputs, hidden)
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
    more = torch.tensor([tokens], dtype=torch.long, device=inputs["input_ids"].device)
    result = dict(inputs)
    result["input_ids"] = torch.cat([inputs["input_ids"], more], 1)
    images = inputs.get("token_type_ids", more).any()  # 1 is an image, in PaliGemma what follows the prompt
    fill = {"attention_mask": 1, "mm_token_type_ids": 0, "token_type_ids": 0 if images else 1}
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
