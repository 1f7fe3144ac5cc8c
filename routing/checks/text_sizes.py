"""A tiny copy of any text config: its kinds of layers and its proportions, by rules on the names of fields.

Knows how configs name widths, heads, experts, ranks and patterns of layers; knows no model type. What no rule
names is kept as it is: norms, activations, biases, scales, rotary embeddings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from routing.checks.configs import LAYERS, VOCABULARY

HIDDEN, HEADS, HEAD_DIM = 64, 4, 16
TRAINED = 16  # positions before a rotary embedding is stretched; fewer than the checks' prompts have

_LAYER_LISTS = re.compile(r"(_layers|_idxs|layer_ids)$")
_BOUNDARIES = re.compile(r"^first_k_dense_replace$|_index_(start|end)$")
_INNER = re.compile(r"intermediate_size|ffn_dim|^d_ff$|expert_dim$|moe_hidden_size$|moe_latent_size$")
_HEADS = re.compile(r"(^|_)heads($|_per)|n_groups$")
_HEAD_DIMS = re.compile(r"head_dim$|^d_kv$|^rotary_dim$")
_AT_MOST = (  # names of fields, and what they are at most in a tiny config: the first that matches
    (r"^(hidden_size|d_model|embed_dim|n_embd|word_embed_proj_dim|ple_embed_dim)$", HIDDEN),
    (r"^(vocab_size|unpadded_vocab_size|vocab_size_per_layer_input)$", VOCABULARY),
    (r"^max_position_embeddings$", 1024),
    (r"per_tok$|^top_k|^moe_topk$|^moe_k$|^(n|moe_num|num)_shared", 2),
    (r"experts$", 4),
    (r"^moe_.*size$|expert.*(size|dim)$", 32),
    (_INNER.pattern, 96),
    (r"_rank$|_lowrank$|^d_rel$|ssm_state_size$|per_layer_input$", HEAD_DIM),
    (r"^query_pre_attn_scalar$", HEAD_DIM),
    (r"^n_group$", 2),
    (r"^topk_group$|^n_layers_per_", 1),
    (r"^additional_vocab_size$|^make_ngram_vocab_size|^split_ngram", 8),
    (r"^ngram_vocab_size_base$", 512),
)
_DEPTHS = re.compile(r"^(num_hidden_layers|num_layers|layers|decoder_layers|n_layer)$")
_WINDOWS = re.compile(r"^(sliding_window(_size)?|attention_chunk_size)$")


def tiny_text(text: Any, window: int) -> dict[str, Any]:
    """The settings of a text config of six layers of width 64.

    Args:
        text: a language model's Hugging Face config.
        window: tokens that a sliding window or a chunk of attention holds, where the config has one.

    Each kind of layer occurs, in the order of the config, the first and the last among them.
    """
    own = text.to_dict()
    depth = text.num_hidden_layers
    picked = _pick(own, depth)
    return _Sizes(own, picked, depth, window).settings(own)


def _facets(own: Mapping[str, Any], depth: int) -> list[tuple[Any, ...]]:
    """What each layer is according to the config, one value a field that speaks of single layers."""
    columns: list[list[Any]] = []
    for name, value in own.items():
        if _indices(name, value, depth):
            columns.append([layer in value for layer in range(depth)])
        elif isinstance(value, list) and len(value) == depth and not _sources(name):
            columns.append([repr(entry) for entry in value])
        elif name == "per_layer_config" and value:
            by_layer = {int(layer): repr(more) for layer, more in value.items()}
            columns.append([by_layer.get(layer, "") for layer in range(depth)])
        elif isinstance(value, int) and not isinstance(value, bool) and value > 0:
            if name == "num_kv_shared_layers":
                columns.append([layer >= depth - value for layer in range(depth)])
            elif _BOUNDARIES.search(name):
                columns.append([layer >= value for layer in range(depth)])
    sources = next((value for name, value in own.items() if _sources(name) and value), None)
    if sources:
        columns.append([source == layer for layer, source in enumerate(sources)])
    return list(zip(*columns, strict=True)) if columns else [()] * depth


def _sources(name: str) -> bool:
    """Whether a list names, for each layer, the layer whose keys and values it uses."""
    return name.endswith("source_layers")


def _indices(name: str, value: Any, depth: int) -> bool:
    """Whether a field is a list of layers, and not of one entry a layer."""
    return (
        isinstance(value, list)
        and bool(_LAYER_LISTS.search(name))
        and not _sources(name)
        and all(isinstance(entry, int) and 0 <= entry < depth for entry in value)
        and all(left < right for left, right in pairwise(value))
    )


def _pick(own: Mapping[str, Any], depth: int) -> list[int]:
    """Six layers among which every value of every facet occurs, then every combination, as far as they go."""
    facets = _facets(own, depth)
    if depth <= LAYERS:
        return [layer * depth // LAYERS for layer in range(LAYERS)]
    picked = {0, depth - 1}
    seen = {(place, value) for layer in picked for place, value in enumerate(facets[layer])}
    for layer, kinds in enumerate(facets):
        new = set(enumerate(kinds)) - seen
        if new and len(picked) < LAYERS:
            picked.add(layer)
            seen |= new
    for layer, kinds in enumerate(facets):
        if len(picked) < LAYERS and kinds not in {facets[other] for other in picked}:
            picked.add(layer)
    for layer in range(depth):
        if len(picked) < LAYERS:
            picked.add(layer)
    return sorted(picked)


class _Sizes:
    """The rules, with what they have to know of the whole config."""

    def __init__(self, own: Mapping[str, Any], picked: list[int], depth: int, window: int) -> None:
        self.own, self.picked, self.depth, self.window = own, picked, depth, window
        self.heads = own.get("num_attention_heads") or own.get("attention_heads") or HEADS
        dims = [value for name, value in own.items() if _HEAD_DIMS.search(name) and isinstance(value, int)]
        self.head_dim = min((value for value in dims if value > 0), default=HEAD_DIM)

    def settings(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """All of a config, or what it says of one layer."""
        return {name: self.setting(name, value) for name, value in own.items()}

    def setting(self, name: str, value: Any) -> Any:
        """The value of one field in the tiny config."""
        if name == "per_layer_config" and value:
            by_layer = {int(layer): more for layer, more in value.items()}
            return {
                place: self.settings(by_layer[layer])
                for place, layer in enumerate(self.picked)
                if layer in by_layer
            }
        if name == "rope_parameters" and value:
            return self.rope(value)
        if name == "attention_multiplier":
            return HEAD_DIM**-0.5
        if isinstance(value, list):
            return self.listed(name, value)
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            return value
        return self.number(name, value)

    def listed(self, name: str, value: list[Any]) -> list[Any]:
        """A list of one entry a layer, of layers, or of something else."""
        if _sources(name):
            return self.sources(value)
        if _indices(name, value, self.depth):
            return [place for place, layer in enumerate(self.picked) if layer in value]
        if len(value) == self.depth:
            value = [value[layer] for layer in self.picked]
        return [self.setting(name, entry) if _INNER.search(name) else entry for entry in value]

    def sources(self, value: list[int]) -> list[int]:
        """For each layer the first picked one that uses the same keys and values."""
        used = [value[layer] for layer in self.picked]
        return [used.index(source) for source in used]

    def number(self, name: str, value: int) -> int:
        """A size, a number of layers, or something else."""
        if _DEPTHS.search(name):
            return LAYERS
        if _WINDOWS.search(name):
            return self.window
        if name == "num_kv_shared_layers":
            return sum(layer >= self.depth - value for layer in self.picked)
        if _BOUNDARIES.search(name):
            return sum(layer < value for layer in self.picked)
        if _HEAD_DIMS.search(name):
            return max(8, value * HEAD_DIM // self.head_dim // 2 * 2)
        if _HEADS.search(name):
            return self.number_of_heads(value)
        return min(value, next((most for pattern, most in _AT_MOST if re.search(pattern, name)), value))

    def number_of_heads(self, value: int) -> int:
        """As many as are in proportion to four heads of queries, a power of two."""
        scaled = max(1, value * HEADS // self.heads)
        return min(8, 1 << (scaled.bit_length() - 1))

    def rope(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """The rotary embedding, or one for each type of layer, for heads of the tiny width."""
        if any(isinstance(value, dict) for value in own.values()):
            return {
                name: self.rope(value) if isinstance(value, dict) else value for name, value in own.items()
            }
        rotated = self.own.get("qk_rope_head_dim") or self.own.get("head_dim") or self.head_dim
        part = own.get("partial_rotary_factor") or self.own.get("partial_rotary_factor") or 1.0
        if rotated == self.own.get("qk_rope_head_dim"):
            part = 1.0
        pairs = int(self.setting("head_dim", rotated) * part) // 2
        rope = {name: value[:pairs] if isinstance(value, list) else value for name, value in own.items()}
        if section := own.get("mrope_section"):
            rope["mrope_section"] = sections(section, pairs)
        if "original_max_position_embeddings" in rope:
            longrope = own.get("rope_type") == "longrope"
            rope["original_max_position_embeddings"] = 64 if longrope else TRAINED
        return rope


def sections(own: Sequence[int], pairs: int) -> list[int]:
    """The shares of the axes in so many pairs of a head; what does not divide is the last one's."""
    shares = [share * pairs // sum(own) for share in own]
    return [*shares[:-1], pairs - sum(shares[:-1])]
