"""Tiny language models of every kind of layer, and what torch counts of them."""

from __future__ import annotations

import importlib
import inspect
from collections import Counter
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import CONFIG_MAPPING, DynamicCache, PreTrainedModel

from routing.checks.counting import ROTARY
from routing.checks.runs import holding
from routing.host import version

SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
}
_WINDOW = {"sliding_window": 6}
_UPPER = {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 2}
_EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_ROUTED = {"n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_DELTA = {
    "head_dim": 16,
    "linear_conv_kernel_dim": 3,
    "linear_key_head_dim": 6,
    "linear_value_head_dim": 10,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
_WHOLE_HEADS = {"head_dim": None}  # width over heads
_GEMMA4 = {"sliding_window": 6, "num_hidden_layers": 8, "global_head_dim": 16}


def _rope(*sections: int, **more: float) -> dict[str, Any]:
    return {
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e4,
            "mrope_section": list(sections),
            **more,
        }
    }


TINY: dict[str, tuple[str, dict[str, Any]]] = {  # a name -> model_type and what differs from SIZES
    **{kind: (kind, {}) for kind in ("ernie4_5", "gemma", "granite", "granite4_vision_text", "hyperclovax")},
    **{kind: (kind, {}) for kind in ("granite_docling_text", "llama", "molmo2_text", "olmo2")},
    **{kind: (kind, _WINDOW) for kind in ("cohere2", "exaone4", "gemma2", "mistral", "ministral")},
    **{kind: (kind, _WINDOW) for kind in ("ministral3", "olmo3")},
    **{kind: (kind, _UPPER) for kind in ("qwen2", "qwen3")},
    **{kind: (kind, _rope(1, 1, 2)) for kind in ("glm4v_text", "glm_ocr_text", "paddleocr_vl_text")},
    **{kind: (kind, _rope(1, 1, 2)) for kind in ("qwen2_5_omni_text", "qwen3_vl_text")},
    **{kind: (kind, {**_rope(1, 1, 2), **_UPPER}) for kind in ("qwen2_vl_text", "qwen2_5_vl_text")},
    "aria_text": ("aria_text", {"moe_num_experts": 8}),
    "deepseek_v3": (
        "deepseek_v3",
        {
            **_ROUTED,
            "num_key_value_heads": 4,
            "head_dim": None,
            "kv_lora_rank": 12,
            "q_lora_rank": 20,
            "qk_rope_head_dim": 4,
            "qk_nope_head_dim": 8,
            "v_head_dim": 10,
            "n_group": 2,
            "topk_group": 1,
            "first_k_dense_replace": 1,
        },
    ),
    "ernie4_5_vl_moe_text": (
        "ernie4_5_vl_moe_text",
        {"moe_num_experts": 8, "moe_k": 2, "moe_intermediate_size": [24, 16], **_rope(1, 1, 2)},
    ),
    "gemma3_text": ("gemma3_text", {**_WINDOW, "num_hidden_layers": 7}),
    "gemma4_text, keys shared": (
        "gemma4_text",
        {
            **_GEMMA4,
            "layer_types": ["sliding_attention", "full_attention"] * 4,
            "num_kv_shared_layers": 3,
            "use_double_wide_mlp": True,
            "hidden_size_per_layer_input": 12,
            "vocab_size_per_layer_input": 96,
        },
    ),
    "gemma4_text, experts": (
        "gemma4_text",
        {
            **_GEMMA4,
            "attention_k_eq_v": True,
            "num_global_key_value_heads": 1,
            "hidden_size_per_layer_input": 0,
            "enable_moe_block": True,
            "num_experts": 8,
            "top_k_experts": 2,
            "moe_intermediate_size": 24,
        },
    ),
    "glm4v_moe_text": ("glm4v_moe_text", {**_ROUTED, **_rope(1, 1, 2, partial_rotary_factor=1.0)}),
    "hunyuan_vl_text": ("hunyuan_vl_text", _rope(1, 1, 1, 1)),
    "lfm2": ("lfm2", {"full_attn_idxs": [2], "block_multiple_of": 8}),
    "llama4_text": (
        "llama4_text",
        {
            "intermediate_size_mlp": 40,
            "num_local_experts": 4,
            "attention_chunk_size": 6,
            "interleave_moe_layer_step": 2,
        },
    ),
    "nemotron_h": (
        "nemotron_h",
        {
            **_ROUTED,
            "num_hidden_layers": None,
            "hybrid_override_pattern": "M*E-M",
            "moe_shared_expert_intermediate_size": 20,
            "moe_latent_size": 16,
            "mamba_num_heads": 4,
            "mamba_head_dim": 8,
            "n_groups": 2,
            "ssm_state_size": 10,
            "chunk_size": 4,
        },
    ),
    "olmo": ("olmo", _WHOLE_HEADS),
    "persimmon": ("persimmon", {**_WHOLE_HEADS, "num_key_value_heads": None}),
    "phi3": ("phi3", {**_WINDOW, **_WHOLE_HEADS}),
    "qwen3_5_text": ("qwen3_5_text", {**_DELTA, **_rope(1, 1, 0)}),
    "qwen3_5_moe_text": (
        "qwen3_5_moe_text",
        {**_DELTA, **_EXPERTS, "shared_expert_intermediate_size": 20, **_rope(1, 1, 0)},
    ),
    "qwen3_moe": ("qwen3_moe", {**_EXPERTS, **_UPPER, "mlp_only_layers": [1]}),
    "qwen3_omni_moe_text": ("qwen3_omni_moe_text", {**_EXPERTS, "decoder_sparse_step": 2, **_rope(1, 1, 2)}),
    "qwen3_vl_moe_text": ("qwen3_vl_moe_text", {**_EXPERTS, **_rope(1, 1, 2)}),
}


# The first minor release of transformers 5 that computes what is counted here.
SINCE = {"aria_text": 20, "gemma4_text, keys shared": 23, "nemotron_h": 20, "paddleocr_vl_text": 23}
_RELEASE = int(version("transformers").split(".")[1])
KNOWN = [
    name for name, (kind, _) in TINY.items() if kind in CONFIG_MAPPING and SINCE.get(name, 0) <= _RELEASE
]


def config_of(name: str, **more: Any) -> dict[str, Any]:
    """The config.json of a tiny decoder: only what differs from the library's defaults."""
    kind, own = TINY[name]
    numbers = {**SIZES, **own, **more}
    return {"model_type": kind} | {key: value for key, value in numbers.items() if value is not None}


def grouped_flops(rows: torch.Size, experts: torch.Size, *_: object, **__: object) -> int:
    """What torch's table lacks: every row through the matrix of one expert."""
    return 2 * rows[0] * rows[1] * experts[2]


class Counted:
    """A tiny decoder that counts what it computes, without the rotary embeddings' own products.

    It has no output head. experts: how transformers runs mixtures.
    """

    def __init__(self, config: dict[str, Any], attention: str = "eager", experts: str | None = None) -> None:
        numbers = dict(config)
        loaded = CONFIG_MAPPING[numbers.pop("model_type")](**numbers)
        modeling = importlib.import_module(type(loaded).__module__.replace("configuration_", "modeling_"))
        kind = next(
            found
            for name, found in vars(modeling).items()
            if name.endswith("Model")
            and isinstance(found, type)
            and issubclass(found, PreTrainedModel)
            and found.config_class is type(loaded)
            and "PreTrained" not in name
        )
        torch.manual_seed(0)
        chosen = {} if experts is None else {"experts_implementation": experts}
        self.model = kind._from_config(loaded, attn_implementation=attention, **chosen).eval()
        self.full = loaded.to_dict()
        self.parts: Counter[str] = Counter()
        self.cache = DynamicCache(config=loaded)

    def run(self, length: int, **inputs: Any) -> int:
        """FLOPs of `length` more positions; `.parts` has them by the name of the module."""
        ids = torch.arange(length)[None] % 90 + 3
        if "logits_to_keep" in inspect.signature(self.model.forward).parameters:
            inputs["logits_to_keep"] = 1  # as in generate
        formulas = {torch.ops.aten._grouped_mm: grouped_flops}
        with FlopCounterMode(display=False, custom_mapping=formulas) as counter, torch.no_grad():
            self.model(input_ids=ids, use_cache=True, **holding(self.cache), **inputs)
        self.parts = Counter({name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()})
        return counter.get_total_flops() - sum(self.part(name) for name in ROTARY)

    def part(self, ending: str) -> int:
        """FLOPs of the modules whose name ends so."""
        return sum(flops for name, flops in self.parts.items() if name.endswith(ending))

    @property
    def held(self) -> tuple[int, ...]:
        """Bytes of the tensors of every layer of the cache."""
        return tuple(map(_bytes, self.cache.layers))


def _bytes(layer: Any) -> int:
    tensors = [getattr(layer, name, None) for name in ("keys", "values")]
    for name in ("conv_states", "recurrent_states"):
        tensors += list((getattr(layer, name, None) or {}).values())
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)
