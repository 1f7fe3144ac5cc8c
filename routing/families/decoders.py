"""The language models whose layers are known, with the library's own defaults for what a config leaves out.

How their layers are read is in layer_configs.py. Knows no schedules and no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from routing.families.layer_configs import (
    CONV,
    FULL,
    LINEAR,
    SLIDING,
    Mixers,
    Numbers,
    alike,
    aria_experts,
    attention,
    chosen,
    chunked,
    deepseek_experts,
    delta_net,
    dense,
    ernie_experts,
    every,
    exaone,
    full,
    fused_attention,
    gated_attention,
    gemma3,
    gemma4,
    gemma4_inputs,
    latent_attention,
    lfm2_mlp,
    llama4_experts,
    nemotron_h,
    plain,
    qwen3_5_experts,
    qwen_experts,
    short_convolution,
    upper,
)
from routing.families.layer_shapes import LayerShape


@dataclass(frozen=True)
class Decoder:
    """How the layers of a decoder are read, and the library's values of what a config may leave out.

    layers: config -> its layers. defaults: by the names of configs; without num_key_value_heads it is the
    number of heads, without head_dim width over heads. inputs: config -> numbers that every position is
    projected to before the first layer.
    """

    layers: Callable[[Numbers], Iterable[LayerShape]]
    defaults: Mapping[str, Any]
    inputs: Callable[[Numbers], int] | None = None


def _sizes(
    hidden: int,
    intermediate: int,
    depth: int,
    heads: int,
    vocab: int,
    kv_heads: int | None = None,
    **more: Any,
) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "vocab_size": vocab,
        "num_key_value_heads": kv_heads,
        **more,
    }


_QWEN = {"sliding_window": 4096, "use_sliding_window": False, "max_window_layers": 28}
_QWEN_VL = {**_QWEN, "max_window_layers": 80}
_QWEN_MOE = {
    "decoder_sparse_step": 1,
    "num_experts_per_tok": 8,
    "num_experts": 128,
    "moe_intermediate_size": 768,
}
_DEEPSEEK = {"num_experts_per_tok": 8, "n_shared_experts": 1}
_DELTA = {
    "head_dim": 256,
    "full_attention_interval": 4,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
}
_WINDOW = {"sliding_window": 4096}

_SOFTMAX, _UPPER, _EVERY = alike(), alike(kinds=upper), alike(kinds=every("sliding_window_pattern"))
_FUSED = dict.fromkeys((FULL, SLIDING), fused_attention)
_HYBRID: Mixers = {FULL: gated_attention, LINEAR: delta_net}
_HYBRID_KINDS = every("full_attention_interval", LINEAR)

DEFAULT = "llama"  # where neither a config nor its family names one, as in the library
SHAPES: dict[str, Decoder] = {
    "aria_text": Decoder(
        alike(aria_experts),
        _sizes(4096, 4096, 32, 32, 32000, moe_num_experts=8, moe_topk=2, moe_num_shared_experts=2),
    ),
    "cohere2": Decoder(
        _EVERY, _sizes(8192, 22528, 40, 64, 256000, head_dim=128, sliding_window_pattern=4, **_WINDOW)
    ),
    "deepseek_v3": Decoder(
        alike(deepseek_experts, {FULL: latent_attention}),
        _sizes(7168, 18432, 61, 128, 129280)
        | {
            **_DEEPSEEK,
            "n_routed_experts": 256,
            "moe_intermediate_size": 2048,
            "first_k_dense_replace": 3,
            "kv_lora_rank": 512,
            "q_lora_rank": 1536,
            "qk_rope_head_dim": 64,
            "qk_nope_head_dim": 128,
            "v_head_dim": 128,
        },
    ),
    "ernie4_5": Decoder(_SOFTMAX, _sizes(1024, 3072, 18, 16, 103424, 2, head_dim=128)),
    "ernie4_5_vl_moe_text": Decoder(
        alike(ernie_experts),
        _sizes(2560, 12288, 28, 20, 103424, 4)
        | {
            "moe_intermediate_size": (1536, 512),
            "moe_k": 6,
            "moe_num_experts": 64,
            "moe_num_shared_experts": 2,
        },
    ),
    "exaone4": Decoder(
        alike(kinds=exaone), _sizes(4096, 16384, 32, 32, 102400, sliding_window_pattern=4, **_WINDOW)
    ),
    "gemma": Decoder(_SOFTMAX, _sizes(3072, 24576, 28, 16, 256000, 16, head_dim=256)),
    "gemma2": Decoder(
        _EVERY, _sizes(2304, 9216, 26, 8, 256000, 4, head_dim=256, sliding_window_pattern=2, **_WINDOW)
    ),
    "gemma3_text": Decoder(
        gemma3,
        _sizes(2304, 9216, 26, 8, 262208, 4, head_dim=256, sliding_window_pattern=6, **_WINDOW),
    ),
    "gemma4_text": Decoder(
        gemma4,
        _sizes(2304, 9216, 30, 8, 262144, 4)
        | {
            "head_dim": 256,
            "global_head_dim": 512,
            "sliding_window": 512,
            "sliding_window_pattern": 6,
            "hidden_size_per_layer_input": 256,
            "num_kv_shared_layers": 0,
        },
        gemma4_inputs,
    ),
    "glm4v_text": Decoder(_SOFTMAX, _sizes(4096, 13696, 40, 32, 151552, 2)),
    "glm4v_moe_text": Decoder(
        alike(deepseek_experts),
        _sizes(4096, 10944, 46, 96, 151424, 8)
        | {**_DEEPSEEK, "n_routed_experts": 128, "moe_intermediate_size": 1408, "first_k_dense_replace": 1},
    ),
    "glm_ocr_text": Decoder(_SOFTMAX, _sizes(1024, 4096, 16, 16, 59392, 8)),
    "granite": Decoder(_SOFTMAX, _sizes(4096, 11008, 32, 32, 32000)),
    "granite4_vision_text": Decoder(_SOFTMAX, _sizes(4096, 11008, 32, 32, 32000)),
    "granite_docling_text": Decoder(_SOFTMAX, _sizes(1024, 2048, 28, 16, 133800, 4)),
    "hunyuan_vl_text": Decoder(_SOFTMAX, _sizes(4096, 11008, 32, 32, 290943)),
    "hyperclovax": Decoder(_SOFTMAX, _sizes(4096, 11008, 32, 32, 32000)),
    "lfm2": Decoder(
        alike(lfm2_mlp, {FULL: attention, CONV: short_convolution}, chosen),
        _sizes(2560, 12288, 32, 32, 65536, 8)
        | {
            "conv_L_cache": 3,
            "block_auto_adjust_ff_dim": True,
            "block_multiple_of": 256,
            "block_ffn_dim_multiplier": 1.0,
        },
    ),
    "llama": Decoder(_SOFTMAX, _sizes(4096, 11008, 32, 32, 32000)),
    "llama4_text": Decoder(
        alike(llama4_experts, kinds=chunked),
        _sizes(5120, 8192, 48, 40, 202048, 8)
        | {
            "head_dim": 128,
            "intermediate_size_mlp": 16384,
            "num_local_experts": 16,
            "interleave_moe_layer_step": 1,
            "no_rope_layer_interval": 4,
            "attention_chunk_size": 8192,
        },
    ),
    "ministral": Decoder(_SOFTMAX, _sizes(4096, 14336, 32, 32, 32000, 8, **_WINDOW)),
    "ministral3": Decoder(_SOFTMAX, _sizes(4096, 14336, 34, 32, 131072, 8, head_dim=128)),
    "mistral": Decoder(_SOFTMAX, _sizes(4096, 14336, 32, 32, 32000, 8, **_WINDOW)),
    "molmo2_text": Decoder(_SOFTMAX, _sizes(4096, 12288, 36, 32, 151936, 8, head_dim=128)),
    "nemotron_h": Decoder(
        nemotron_h,
        _sizes(4096, 21504, 4, 32, 131072, 8)
        | {
            "layers_block_type": (LINEAR, "moe", FULL, "mlp"),
            "head_dim": 128,
            "n_routed_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 7688,
            "moe_shared_expert_intermediate_size": 7688,
            "mamba_num_heads": 128,
            "mamba_head_dim": 64,
            "n_groups": 8,
            "ssm_state_size": 128,
            "conv_kernel": 4,
            "chunk_size": 128,
        },
    ),
    "olmo": Decoder(_SOFTMAX, _sizes(4096, 11008, 32, 32, 50304)),
    "olmo2": Decoder(_SOFTMAX, _sizes(4096, 11008, 32, 32, 50304)),
    "olmo3": Decoder(_EVERY, _sizes(4096, 11008, 32, 32, 50304, sliding_window_pattern=4, **_WINDOW)),
    "paddleocr_vl_text": Decoder(_SOFTMAX, _sizes(1024, 3072, 18, 16, 103424, 2, head_dim=128)),
    "persimmon": Decoder(alike(plain, _FUSED), _sizes(4096, 16384, 36, 64, 262144)),
    "phi3": Decoder(alike(mixers=_FUSED), _sizes(3072, 8192, 32, 32, 32064)),
    "qwen2": Decoder(_UPPER, _sizes(4096, 22016, 32, 32, 151936, 32, **_QWEN)),
    "qwen2_vl_text": Decoder(_UPPER, _sizes(8192, 29568, 80, 64, 152064, 8, **_QWEN_VL)),
    "qwen2_5_vl_text": Decoder(_UPPER, _sizes(8192, 29568, 80, 64, 152064, 8, **_QWEN_VL)),
    "qwen2_5_omni_text": Decoder(
        _UPPER, _sizes(3584, 18944, 28, 28, 152064, 4, **{**_QWEN, "sliding_window": 32768})
    ),
    "qwen3": Decoder(_UPPER, _sizes(4096, 22016, 32, 32, 151936, 32, head_dim=128, **_QWEN)),
    "qwen3_5_text": Decoder(
        alike(dense, _HYBRID, _HYBRID_KINDS), _sizes(4096, 12288, 32, 16, 248320, 4, **_DELTA)
    ),
    "qwen3_5_moe_text": Decoder(
        alike(qwen3_5_experts, _HYBRID, _HYBRID_KINDS),
        _sizes(2048, 512, 40, 16, 248320, 2)
        | {
            **_DELTA,
            "num_experts": 256,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 512,
            "shared_expert_intermediate_size": 512,
        },
    ),
    "qwen3_moe": Decoder(alike(qwen_experts), _sizes(2048, 6144, 24, 32, 151936, 4, **_QWEN_MOE, **_QWEN)),
    "qwen3_omni_moe_text": Decoder(alike(qwen_experts), _sizes(2048, 18944, 28, 28, 3584, 4, **_QWEN_MOE)),
    "qwen3_vl_moe_text": Decoder(
        alike(qwen_experts, kinds=full),
        _sizes(2048, 5632, 24, 16, 151936, 16)
        | {
            **_QWEN_MOE,
            "num_experts_per_tok": 4,
            "num_experts": 60,
            "moe_intermediate_size": 1408,
            "head_dim": 128,
        },
    ),
    "qwen3_vl_text": Decoder(_SOFTMAX, _sizes(4096, 22016, 32, 32, 151936, 32, head_dim=128)),
}
DECODERS = (  # plain ones: norm, q_proj, k_proj, rotary embedding, so that a ranking projects keys alone
    "llama",
    "mistral",
    "ministral3",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "gemma",
    "qwen2_vl_text",
    "qwen2_5_vl_text",
    "qwen3_vl_text",
    "qwen3_vl_moe_text",
    "glm4v_text",
)
