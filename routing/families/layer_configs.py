"""How the layers of language models are read from the text part of a config.json, as transformers 5.24 does.

Which decoder is read how stands in decoders.py. Knows no schedules and no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from routing.errors import UnsupportedModelError
from routing.families.layer_shapes import (
    Attention,
    Experts,
    GatedDeltaNet,
    LatentAttention,
    LayerShape,
    Mixer,
    Mlp,
    ShortConvolution,
    StateSpace,
)

MOST_LAYERS = 1000  # costs are worked out layer by layer
FULL, SLIDING, CHUNKED = "full_attention", "sliding_attention", "chunked_attention"
LINEAR, CONV = "linear_attention", "conv"
_OLD_KINDS = {"attention": FULL, "mamba": LINEAR}


@dataclass(frozen=True)
class Numbers:
    """The text part of a config, completed by the library's defaults; every read is checked.

    kind: model_type of the decoder. Raises UnsupportedModelError where a value is missing or makes no sense.
    """

    text: Mapping[str, Any]
    kind: str
    defaults: Mapping[str, Any]

    def value(self, *names: str) -> Any:
        """The first of these that is given and not null, or its default."""
        given = [self.text.get(name) for name in names] + [self.defaults.get(name) for name in names]
        return next((value for value in given if value is not None), None)

    def number(self, *names: str, least: int = 1, otherwise: int | None = None) -> int:
        """A whole number from `least` up.

        names: how it may be called. otherwise: what it is where the library has no default.
        """
        value = self.value(*names)
        value = otherwise if value is None else value
        if value is None:
            raise UnsupportedModelError(
                f"config: {names[0]} is missing, and {self.kind} decoders have no known default"
            )
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            positive = "positive whole number" if least else "whole number from 0 up"
            raise UnsupportedModelError(f"config: {names[0]} must be a {positive}, got {value!r}")
        return value

    def optional(self, name: str) -> int | None:
        """The same where null has a meaning of its own: None."""
        value = self.text.get(name, self.defaults.get(name))
        return None if value is None else self.number(name)

    def numbers(self, name: str) -> tuple[int, ...] | None:
        """A list of whole numbers; None where there is none."""
        value = self.value(name)
        if value is None:
            return None
        if not isinstance(value, Sequence) or not all(type(item) is int for item in value):
            raise UnsupportedModelError(f"config: {name} must be a list of whole numbers, got {value!r}")
        return tuple(value)

    @property
    def depth(self) -> int:
        """Decoder layers."""
        layers = self.number("num_hidden_layers")
        if layers > MOST_LAYERS:
            raise UnsupportedModelError(f"config: {layers} layers are more than {MOST_LAYERS}")
        return layers

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return self.number("hidden_size")

    def kinds(self, name: str, otherwise: Kinds) -> tuple[str, ...]:
        """The kind of each layer as the config lists it; where it lists none, by its index."""
        given = self.value(name)
        if given is None:
            return tuple(map(otherwise(self), range(self.depth)))
        if isinstance(given, str) or not isinstance(given, Sequence) or not 0 < len(given) <= MOST_LAYERS:
            raise UnsupportedModelError(f"config: {name} must be a list of layer kinds, got {given!r}")
        return tuple(_OLD_KINDS.get(str(kind), str(kind)) for kind in given)


Kinds = Callable[[Numbers], Callable[[int], str]]


def attention(numbers: Numbers, **particular: Any) -> Attention:
    """Grouped queries, with what is particular of a decoder's."""
    heads = numbers.number("num_attention_heads")
    width = numbers.optional("head_dim") or max(numbers.hidden // heads, 1)
    kv_heads = numbers.optional("num_key_value_heads") or heads
    return Attention(numbers.hidden, heads, kv_heads, width, width, **particular)


def latent_attention(numbers: Numbers) -> LatentAttention:
    """DeepSeek's."""
    return LatentAttention(
        hidden=numbers.hidden,
        heads=numbers.number("num_attention_heads"),
        query_rank=numbers.optional("q_lora_rank"),
        kv_rank=numbers.number("kv_lora_rank"),
        rope_width=numbers.number("qk_rope_head_dim"),
        plain_width=numbers.number("qk_nope_head_dim"),
        value_width=numbers.number("v_head_dim"),
    )


def fused_attention(numbers: Numbers) -> Attention:
    """Queries, keys and values of one matrix."""
    return attention(numbers, fused=True)


def gated_attention(numbers: Numbers) -> Attention:
    """Queries beside gates of the same width."""
    plain = attention(numbers)
    return replace(plain, gate=plain.heads * plain.key_width)


def delta_net(numbers: Numbers) -> GatedDeltaNet:
    """Of Qwen3.5."""
    return GatedDeltaNet(
        hidden=numbers.hidden,
        key_heads=numbers.number("linear_num_key_heads"),
        value_heads=numbers.number("linear_num_value_heads"),
        key_width=numbers.number("linear_key_head_dim"),
        value_width=numbers.number("linear_value_head_dim"),
        kernel=numbers.number("linear_conv_kernel_dim"),
    )


def state_space(numbers: Numbers) -> StateSpace:
    """Of Nemotron-H."""
    return StateSpace(
        hidden=numbers.hidden,
        heads=numbers.number("mamba_num_heads"),
        width=numbers.number("mamba_head_dim"),
        groups=numbers.number("n_groups", "mamba_n_groups"),
        state=numbers.number("ssm_state_size"),
        kernel=numbers.number("conv_kernel", "mamba_d_conv"),
        chunk=numbers.number("chunk_size", "mamba_chunk_size"),
    )


def short_convolution(numbers: Numbers) -> ShortConvolution:
    """Of LFM2."""
    return ShortConvolution(numbers.hidden, numbers.number("conv_L_cache"))


Mlps = tuple[Mlp | Experts, ...]


def dense(numbers: Numbers, _layer: int) -> Mlps:
    """A gated MLP; refused where the config speaks of experts."""
    if numbers.value("num_experts", "num_local_experts", "n_routed_experts"):
        raise UnsupportedModelError(f"{numbers.kind}: the cost of its mixture of experts is not modelled")
    return (Mlp(numbers.hidden, numbers.number("intermediate_size")),)


def plain(numbers: Numbers, _layer: int) -> Mlps:
    """An MLP without a gate."""
    return (Mlp(numbers.hidden, numbers.number("intermediate_size"), gated=False),)


def lfm2_mlp(numbers: Numbers, _layer: int) -> Mlps:
    """A gated MLP of two thirds of the width, rounded up to a multiple."""
    width = numbers.number("block_ff_dim", "intermediate_size")
    if numbers.value("block_auto_adjust_ff_dim"):
        factor, multiple = numbers.value("block_ffn_dim_multiplier"), numbers.number("block_multiple_of")
        width = int((1 if factor is None else factor) * int(2 * width / 3))
        width = -(-width // multiple) * multiple
    return (Mlp(numbers.hidden, width),)


def routed(numbers: Numbers, **particular: Any) -> Mlps:
    """Experts by the names that most configs have, with what is particular of a decoder's."""
    return (
        Experts(
            numbers.hidden,
            experts=numbers.number("num_experts", "num_local_experts", "n_routed_experts"),
            active=numbers.number("num_experts_per_tok"),
            width=numbers.number("moe_intermediate_size"),
            **particular,
        ),
    )


def qwen_experts(numbers: Numbers, layer: int) -> Mlps:
    """Experts in every `decoder_sparse_step`-th layer that is not said to be dense."""
    if layer in (numbers.numbers("mlp_only_layers") or ()) or (layer + 1) % numbers.number(
        "decoder_sparse_step"
    ):
        return (Mlp(numbers.hidden, numbers.number("intermediate_size")),)
    return routed(numbers)


def qwen3_5_experts(numbers: Numbers, _layer: int) -> Mlps:
    """Experts and a gated one that is shared."""
    return routed(numbers, shared=numbers.number("shared_expert_intermediate_size"), shared_gate=True)


def deepseek_experts(numbers: Numbers, layer: int) -> Mlps:
    """Experts with shared ones behind the first dense layers."""
    if layer < numbers.number("first_k_dense_replace", least=0):
        return (Mlp(numbers.hidden, numbers.number("intermediate_size")),)
    shared = numbers.number("n_shared_experts", least=0)
    return routed(numbers, shared=shared * numbers.number("moe_intermediate_size"))


def ernie_experts(numbers: Numbers, layer: int) -> Mlps:
    """Experts of their own for text and for visual tokens, the shared ones as wide as those of text."""
    kinds = numbers.kinds("mlp_layer_types", lambda _: lambda index: "sparse" if index else "dense")
    if kinds[layer] != "sparse":
        return (Mlp(numbers.hidden, numbers.number("intermediate_size")),)
    widths = numbers.numbers("moe_intermediate_size") or ()
    if len(widths) != 2 or min(widths) < 1:
        raise UnsupportedModelError(f"config: moe_intermediate_size must be two widths, got {widths!r}")
    return (
        Experts(
            numbers.hidden,
            experts=numbers.number("moe_num_experts", "num_experts"),
            active=numbers.number("moe_k", "num_experts_per_tok"),
            width=widths[0],
            shared=widths[0] * numbers.number("moe_num_shared_experts", least=0),
            visual_width=widths[1],
        ),
    )


def aria_experts(numbers: Numbers, _layer: int) -> Mlps:
    """Experts and shared ones of one width."""
    width = numbers.number("intermediate_size")
    return (
        Experts(
            numbers.hidden,
            experts=numbers.number("moe_num_experts"),
            active=numbers.number("moe_topk"),
            width=width,
            shared=width * numbers.number("moe_num_shared_experts", least=0),
        ),
    )


def llama4_experts(numbers: Numbers, layer: int) -> Mlps:
    """Experts and a shared one; transformers runs all of them on every position, and that is counted."""
    step, chosen = numbers.number("interleave_moe_layer_step"), numbers.numbers("moe_layers")
    if (layer + 1) % step if chosen is None else layer not in chosen:
        return (Mlp(numbers.hidden, numbers.number("intermediate_size_mlp")),)
    experts, width = numbers.number("num_local_experts"), numbers.number("intermediate_size")
    return (Experts(numbers.hidden, experts, active=experts, width=width, shared=width),)


Mixers = Mapping[str, Callable[[Numbers], Mixer]]
SOFTMAX: Mixers = {FULL: attention, SLIDING: attention, CHUNKED: attention}
_WINDOWS = {SLIDING: "sliding_window", CHUNKED: "attention_chunk_size"}


def everywhere(numbers: Numbers) -> Callable[[int], str]:
    """A window in all layers where the config has one and does not say that it is unused."""
    unused = numbers.optional("sliding_window") is None or numbers.value("use_sliding_window") is False
    return lambda _: FULL if unused else SLIDING


def full(_numbers: Numbers) -> Callable[[int], str]:
    """No window in any layer, whatever the config says."""
    return lambda _: FULL


def upper(numbers: Numbers) -> Callable[[int], str]:
    """A window from layer `max_window_layers` on where the config asks for it."""
    if not numbers.value("use_sliding_window") or numbers.optional("sliding_window") is None:
        return lambda _: FULL
    first = numbers.number("max_window_layers", least=0)
    return lambda layer: SLIDING if layer >= first else FULL


def every(name: str, usual: str = SLIDING) -> Kinds:
    """Full attention in every n-th layer, n being the number called `name`, and `usual` in the others."""

    def kinds(numbers: Numbers) -> Callable[[int], str]:
        step = numbers.number(name)
        return lambda layer: usual if (layer + 1) % step else FULL

    return kinds


def exaone(numbers: Numbers) -> Callable[[int], str]:
    """Full attention at intervals, and everywhere where no window is given."""
    windowless = numbers.optional("sliding_window") is None
    return full(numbers) if windowless else every("sliding_window_pattern")(numbers)


def chosen(numbers: Numbers) -> Callable[[int], str]:
    """Full attention in the layers that `full_attn_idxs` lists (null: in all), convolutions in the others."""
    full = numbers.numbers("full_attn_idxs")
    return lambda layer: FULL if full is None or layer in full else CONV


def chunked(numbers: Numbers) -> Callable[[int], str]:
    """Chunks in the layers with rotary embeddings, which are those that `no_rope_layers` marks by 1."""
    step, marks = numbers.number("no_rope_layer_interval"), numbers.numbers("no_rope_layers")
    if numbers.optional("attention_chunk_size") is None:
        return lambda _: FULL
    if marks:
        return lambda layer: CHUNKED if layer < len(marks) and marks[layer] else FULL
    return lambda layer: CHUNKED if (layer + 1) % step else FULL


def alike(
    mlps: Callable[[Numbers, int], Mlps] = dense,
    mixers: Mixers = SOFTMAX,
    kinds: Kinds = everywhere,
) -> Callable[[Numbers], Iterator[LayerShape]]:
    """Layers that differ by kind in what mixes positions, and by depth in their MLP.

    mlps: config, layer -> what follows the mixer. mixers: kind of layer -> its mixer. kinds: those of a
    config that lists none.
    """

    def layers(numbers: Numbers) -> Iterator[LayerShape]:
        listed = numbers.kinds("layer_types", kinds)
        if len(listed) != numbers.depth:
            raise UnsupportedModelError(f"config: {len(listed)} layer_types for {numbers.depth} layers")
        if numbers.value("per_layer_config"):
            raise UnsupportedModelError(f"{numbers.kind}: layers with numbers of their own are not modelled")
        for layer, kind in enumerate(listed):
            if kind not in mixers:
                raise UnsupportedModelError(f"{numbers.kind}: the cost of {kind} layers is not modelled")
            window = numbers.optional(_WINDOWS[kind]) if kind in _WINDOWS else None
            if window is None and kind in _WINDOWS:
                raise UnsupportedModelError(f"config: {_WINDOWS[kind]} is missing, and layer {layer} has one")
            yield LayerShape(mixers[kind](numbers), mlps(numbers, layer), window)

    return layers


def gemma3(numbers: Numbers) -> Iterator[LayerShape]:
    """Full attention at intervals; refused where windows look both ways, whose size is another."""
    if numbers.value("use_bidirectional_attention") is True:
        raise UnsupportedModelError(f"{numbers.kind}: the cost of bidirectional windows is not modelled")
    return alike(kinds=every("sliding_window_pattern"))(numbers)


def gemma4_attention(numbers: Numbers, layer: int, kind: str) -> Attention:
    """With heads of another width and number in full attention, whose values may be its keys."""
    usual = attention(numbers)
    tied = kind == FULL and numbers.value("attention_k_eq_v") is True
    width = numbers.number("global_head_dim") if kind == FULL else usual.key_width
    heads = numbers.value("num_global_key_value_heads") if tied else None
    if isinstance(written := numbers.value("per_layer_config"), Mapping):  # as the library writes both
        named = {str(key).zfill(4): value for key, value in written.items()}
        own = Numbers(named.get(f"{layer:04}") or {}, numbers.kind, {})
        if unknown := set(own.text) - {"head_dim", "num_key_value_heads"}:
            raise UnsupportedModelError(f"{numbers.kind}: layers with their own {unknown} are not modelled")
        width, heads = own.number("head_dim", otherwise=usual.key_width), own.value("num_key_value_heads")
    heads = Numbers({"num_key_value_heads": heads}, numbers.kind, {})
    kv_heads = heads.number("num_key_value_heads", otherwise=usual.kv_heads)
    return replace(usual, key_width=width, value_width=width, kv_heads=kv_heads, tied=tied)


def gemma4_mlps(numbers: Numbers, shared: bool) -> Mlps:
    """A gated MLP, perhaps twice as wide where keys are shared; perhaps experts; the layer's own input."""
    hidden, double = numbers.hidden, shared and numbers.value("use_double_wide_mlp") is True
    mlps: Mlps = (Mlp(hidden, numbers.number("intermediate_size") * (2 if double else 1)),)
    if numbers.value("enable_moe_block"):
        experts, active = numbers.number("num_experts"), numbers.number("top_k_experts")
        mlps += (Experts(hidden, experts, active, numbers.number("moe_intermediate_size")),)
    inputs = numbers.number("hidden_size_per_layer_input", least=0)
    return (*mlps, Mlp(hidden, inputs, gated=False)) if inputs else mlps


def gemma4(numbers: Numbers) -> Iterator[LayerShape]:
    """Full attention at the end and at intervals before; the last layers use the keys of earlier ones."""
    kinds = [*numbers.kinds("layer_types", every("sliding_window_pattern"))[:-1], FULL]
    own = kinds[: max(numbers.depth - numbers.number("num_kv_shared_layers", least=0), 0)]
    known = len(kinds) == numbers.depth and set(kinds) <= {FULL, SLIDING} & set(own)
    if not known or numbers.value("use_bidirectional_attention") == "all":
        raise UnsupportedModelError(f"{numbers.kind}: the cost of a decoder of this kind is not modelled")
    for layer, kind in enumerate(kinds):
        mixer, source = gemma4_attention(numbers, layer, kind), None
        if layer >= len(own):
            mixer, source = replace(mixer, kv_heads=0), len(own) - 1 - own[::-1].index(kind)
        window = numbers.number("sliding_window") if kind == SLIDING else None
        yield LayerShape(mixer, gemma4_mlps(numbers, source is not None), window, source)


def gemma4_inputs(numbers: Numbers) -> int:
    """Every layer's own input, projected from the embeddings."""
    return numbers.depth * numbers.number("hidden_size_per_layer_input", least=0)


def nemotron_mlps(numbers: Numbers, kind: str) -> Mlps:
    """An MLP without a gate, or experts of such, in a narrower width where there is one."""
    if kind == "mlp":
        return plain(numbers, 0)
    shared = numbers.number("moe_shared_expert_intermediate_size")
    return routed(numbers, gated=False, shared=shared, latent=numbers.optional("moe_latent_size"))


def nemotron_h(numbers: Numbers) -> Iterator[LayerShape]:
    """Layers that are a mixer, an MLP or experts alone, listed or written as a word."""
    names = [name for name in ("layers_block_type", "layer_types") if numbers.text.get(name) is not None]
    if not names and isinstance(pattern := numbers.value("hybrid_override_pattern"), str):
        letters = {"M": LINEAR, "E": "moe", "*": FULL, "-": "mlp"}
        numbers = replace(
            numbers, text={**numbers.text, "layers_block_type": [letters.get(x, x) for x in pattern]}
        )
    for kind in numbers.kinds(names[0] if names else "layers_block_type", full):
        if kind in ("moe", "mlp"):
            yield LayerShape(None, nemotron_mlps(numbers, kind))
        elif kind in (LINEAR, FULL):
            yield LayerShape(state_space(numbers) if kind == LINEAR else attention(numbers), ())
        else:
            raise UnsupportedModelError(f"{numbers.kind}: the cost of {kind} layers is not modelled")
