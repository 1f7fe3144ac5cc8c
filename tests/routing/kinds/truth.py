"""The truth for every kind of decoder layer: masks from positions, unmodified layers by hand, no cache.

`by_hand` runs the model's own layers one by one on the tokens that each of them processes; who sees whom is
worked out here, from the ORIGINAL positions of these tokens and the config, never taken from the framework.
What else a layer is told (rotary angles, per-layer inputs) is taken from a run of the unhooked model. One
sample without padding. Imports nothing of the engine.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from transformers import CONFIG_MAPPING

from routing.checks.copies import placeholder_ids, tiny_copy
from routing.checks.reference import Cut, Expected, Kept, after, decoder, dense, score
from routing.checks.subjects import Copied

WINDOW = 12  # of windows and chunks in the models below: every prompt here is longer
RECURRENT = ("linear_attention", "conv")
ALONE = ("mlp", "moe")  # layers that treat every token by itself
_LETTERS = {
    "f": "full_attention",
    "s": "sliding_attention",
    "c": "chunked_attention",
    "l": "linear_attention",
}
_LETTERS |= {"v": "conv", "p": "mlp", "e": "moe"}
BLOCKS = {  # model types whose image tokens see each other in both directions, and the layers where they do
    "gemma3": ("sliding_attention", "full_attention"),
    "gemma4": ("sliding_attention",),
}
SHARED = {
    "num_kv_shared_layers": 2,
    "hidden_size_per_layer_input": 256,
    "use_bidirectional_attention": "vision",
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {  # a type, and what is set in it
    "gemma3": ("gemma3", {"layers": "ssfsfs"}),
    "cohere2": ("cohere2_vision", {"layers": "ssfsfs"}),
    "mistral": ("mistral3", {"num_hidden_layers": 6, "sliding_window": 4096}),
    "llama4": ("llava", {"text": "llama4_text", "layers": "ccfccf", "no_rope_layers": [1, 1, 0, 1, 1, 0]}),
    "qwen3_5": ("qwen3_5", {"layers": "llfllf"}),
    "qwen3_next": ("llava", {"text": "qwen3_next", "layers": "llfllf"}),
    "qwen3_5_moe": ("qwen3_5_moe", {"layers": "llfllf"}),
    "lfm2": ("lfm2_vl", {"layers": "vvfvfv"}),
    "nemotron": ("llava", {"text": "nemotron_h", "layers": "lpflef"}),
    "recurrent_end": ("qwen3_5", {"layers": "lflfll"}),
    "gemma4": ("gemma4", {"layers": "sfsfsf", **SHARED}),
    "gemma3n": ("gemma3n", {}),
}
_AXIS = {"position_embeddings": -2, "position_ids": -1, "per_layer_input": 1}  # of the tokens


@functools.cache
def subject(name: str, attention: str = "sdpa") -> Copied:
    """The tiny model of that name, shared by tests: they must leave it as they found it."""
    kind, settings = MODELS.get(name, ("llava", {"text": name, "num_hidden_layers": 6}))
    config = configured(kind, **settings)
    return Copied(kind, tiny_copy(config, attention, window=WINDOW))


def configured(kind: str, layers: str = "", text: str | None = None, **settings: Any) -> Any:
    """The config of a model type with another language model, or other settings of its own.

    layers: the kinds of its layers by their letters. text: type of the language model. settings: of that.
    """
    if layers:
        settings |= {"num_hidden_layers": len(layers), "layer_types": [_LETTERS[one] for one in layers]}
    config = CONFIG_MAPPING[kind]()
    own = config.get_text_config()
    holder = next(key for key, value in vars(config).items() if value is own)
    setattr(config, holder, CONFIG_MAPPING[text or own.model_type](**settings))
    return config


def layer_types(model: Any) -> list[str]:
    """What the config calls each decoder layer."""
    text = model.config.get_text_config()
    same = "sliding_attention" if getattr(text, "sliding_window", None) else "full_attention"
    return list(getattr(text, "layer_types", None) or [same] * text.num_hidden_layers)


def visible(model: Any, ids: Tensor) -> list[Tensor | None]:
    """For each layer who sees whom, (L, L) bool by query and key; None where a state runs over the tokens.

    ids: (L,). A window of w holds the query and w - 1 positions before it; chunks of c begin at multiples of
    c; a run of image tokens is a block.
    """
    text = model.config.get_text_config()
    at = torch.arange(len(ids))
    image = torch.isin(ids, torch.tensor(placeholder_ids(model.config)))
    block = (~image).cumsum(0).where(image, -1 - at)  # text: each its own
    found: list[Tensor | None] = []
    for kind in layer_types(model):
        seen = at[:, None] >= at
        if kind in BLOCKS.get(model.config.model_type, ()):
            seen = seen | (block[:, None] == block)
        if kind == "sliding_attention":
            seen = seen & (at[:, None] - at < text.sliding_window)
        if kind == "chunked_attention":
            seen = seen & (at[:, None] // text.attention_chunk_size == at // text.attention_chunk_size)
        found.append(None if kind in (*RECURRENT, *ALONE) else seen)
    return found


class Hand:
    """One prompt, and the layers of the unhooked model to run on some of its tokens."""

    def __init__(self, model: Any, inputs: dict[str, Any]) -> None:
        self.model, self.inputs, self.ids = model, inputs, inputs["input_ids"][0]
        self.layers, self.seen = decoder(model).layers, dense(model, inputs)
        self.visible = visible(model, self.ids)
        self.states: dict[int, Any] = {}  # what layers hand to each other beside the hidden states
        self.ran: list[tuple[Tensor, Tensor]] = []  # input (L, d) of each layer, and which tokens it ran on

    def given(self, index: int, rows: Tensor) -> dict[str, Any]:
        """The arguments of layer `index` for the tokens `rows`."""
        arguments: dict[str, Any] = {}
        for name, value in self.seen.calls[index].items():
            if isinstance(value, dict):
                value = self.states.setdefault(id(value), type(value)())
            elif name in _AXIS and value is not None:
                parts = value if isinstance(value, tuple) else (value,)
                picked = tuple(part.index_select(_AXIS[name], rows) for part in parts)
                value = picked if isinstance(value, tuple) else picked[0]
            arguments[name] = value
        seen = self.visible[index]
        mask = None if seen is None else torch.zeros(1, 1, len(rows), len(rows))
        if mask is not None and seen is not None:
            mask = mask.masked_fill(~seen[rows][:, rows], torch.finfo(mask.dtype).min)
        return {**arguments, "attention_mask": mask}

    @staticmethod
    def alone(hidden: Tensor) -> Tensor:
        """States of some tokens as a layer takes them: (1, R, d), or n of each token as (n, 1, R, d)."""
        return hidden[None] if hidden.ndim == 2 else hidden.movedim(1, 0)[:, None]

    def run(self, index: int, hidden: Tensor, rows: Tensor) -> Tensor:
        """(L, d) after layer `index`, of which only the tokens `rows` were given to it."""
        self.ran.append((hidden, rows))
        output = self.layers[index](self.alone(hidden[rows]), **self.given(index, rows))
        output = output[0] if isinstance(output, tuple) else output
        return hidden.index_copy(0, rows, output[0] if output.ndim == 3 else output[:, 0].movedim(0, 1))

    def scores(self, index: int, hidden: Tensor, rows: Tensor) -> Tensor:
        """(L,) head-mean attention of the last token in layer `index`, as its eager attention returns it."""
        found = score(self.layers[index], hidden[rows], self.given(index, rows))
        assert found is not None
        return torch.full((len(hidden),), -1.0).index_copy(0, rows, found)

    def logits(self, hidden: Tensor) -> Tensor:
        """(L, vocabulary) after the last layer."""

        def put(_layer: Any, _args: Any, output: Any) -> Any:
            return (self.alone(hidden), *output[1:]) if isinstance(output, tuple) else self.alone(hidden)

        handle = self.layers[-1].register_forward_hook(put)
        try:
            found: Tensor = self.model(**self.inputs, use_cache=False).logits[0]
        finally:
            handle.remove()
        return found


def by_hand(
    model: Any,
    inputs: dict[str, Any],
    cuts: tuple[Cut, ...],
    reroute: bool,
    fixed: tuple[Kept, ...] | None = None,
) -> Expected:
    """A routed prompt: kept visual tokens of each cut, tokens of each layer, logits, scores.

    fixed: the kept tokens, where they have been chosen already and text has come behind them.
    """
    return followed(Hand(model, inputs), cuts, reroute, fixed)


@torch.no_grad()
def followed(
    hand: Hand, cuts: tuple[Cut, ...], reroute: bool, fixed: tuple[Kept, ...] | None = None
) -> Expected:
    """The same through all layers of `hand`, which notes what it ran."""
    model = hand.model
    hidden, everything = hand.seen.hidden[0], torch.arange(len(hand.ids))
    image = torch.isin(hand.ids, torch.tensor(placeholder_ids(model.config)))
    visual, active, candidates = everything[image], everything, everything[image]
    kept: list[Kept] = []
    scores: list[Tensor | None] = []
    lengths = []
    for index in range(len(hand.layers)):
        for cut in (cut for cut in cuts if cut.layer == index):
            ranked = None
            if fixed is None:
                ranks = next(layer for layer in range(index, len(hand.layers)) if _ranks(model, index, layer))
                ranked = hand.scores(ranks, hidden, everything if reroute else active)
                order = sorted(candidates.tolist(), key=lambda place: (-float(ranked[place]), place))
                chosen = torch.tensor(sorted(order[: max(1, int(len(visual) * cut.keep_ratio))]))
            else:
                chosen = visual[list(fixed[len(kept)])]
            kept.append(tuple(torch.searchsorted(visual, chosen).tolist()))
            scores.append(None if ranked is None else ranked[visual])
            active = everything[~image | torch.isin(everything, chosen)]
            candidates = visual if reroute else chosen
        lengths.append(len(active))
        hidden = hand.run(index, hidden, active)
    logits = hand.logits(hidden)
    return Expected(tuple(kept), tuple(lengths), logits[-1], tuple(scores), logits)


def _ranks(model: Any, index: int, layer: int) -> bool:
    """Whether a decision at `index` is ranked in `layer`, if in none before: by itself, or full attention."""
    text = model.config.get_text_config()
    own = text.num_hidden_layers - (getattr(text, "num_kv_shared_layers", None) or 0)
    kinds = layer_types(model)
    if layer > index:
        return layer < own and kinds[layer] == "full_attention"
    return layer < own and kinds[layer] not in (*RECURRENT, *ALONE)


def beams(
    model: Any, inputs: dict[str, Any], cuts: tuple[Cut, ...], reroute: bool, width: int, new: int
) -> list[int]:
    """Beam search by hand: every hypothesis recomputed from the first token with the prompt's kept sets."""
    prefill = by_hand(model, inputs, cuts, reroute)
    found: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    for step in range(new):
        grown = []
        for tokens, total in found:
            logits = prefill.logits
            if step:
                logits = after(model, inputs, cuts, reroute, prefill.kept, list(tokens), by_hand)
            best = logits.log_softmax(-1).topk(width)
            pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            grown += [((*tokens, token), total + value) for token, value in pairs]
        found = sorted(grown, key=lambda beam: -beam[1])[:width]
    return list(found[0][0])
