"""Configurations of tiny random models, one per family of vision-language model.

Knows the configurations of transformers and how to fill weights so that attention is far from uniform. Does
not know how inputs are made (tiny.py), and nothing of the engine under test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText, PreTrainedConfig

VOCABULARY = 200
IMAGE, VIDEO, START, END, BREAK = 190, 191, 192, 193, 194
LAYERS = 6

_TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6,
    "bos_token_id": 1,
    "eos_token_id": None,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
_MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
QWEN_IDS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": START,
    "vision_end_token_id": END,
    "tie_word_embeddings": False,
}
_PINPOINTS = [[12, 24], [24, 12], [24, 24]]


def _clip(size: int) -> dict[str, Any]:
    return {
        "model_type": "clip_vision_model",
        "image_size": size,
        "patch_size": 4,
        "projection_dim": 32,
        **TOWER,
    }


def siglip(size: int) -> dict[str, Any]:
    """A SigLIP tower for pictures of size × size pixels, 4×4 pixels a patch."""
    return {
        "model_type": "siglip_vision_model",
        "image_size": size,
        "patch_size": 4,
        "vision_use_head": False,
        **TOWER,
    }


def text_part(model_type: str, **more: object) -> dict[str, Any]:
    """The language model: six layers of width 64, two key heads for four query heads."""
    return {"model_type": model_type, **_TEXT, **more}


def grid_tower(**more: object) -> dict[str, Any]:
    """A tower in the manner of Qwen: patches of 4×4 pixels, 2×2 of them to a visual token."""
    return {
        "depth": 2,
        "hidden_size": 32,
        "num_heads": 2,
        "in_channels": 3,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        **more,
    }


def _llava() -> dict[str, Any]:
    return {
        "text_config": text_part("llama", head_dim=16),
        "vision_config": _clip(20),
        "image_token_index": IMAGE,
        "image_seq_length": 25,
    }


def _llava_next() -> dict[str, Any]:
    return {
        "text_config": text_part("llama", head_dim=16),
        "vision_config": _clip(12),
        "image_token_index": IMAGE,
        "image_grid_pinpoints": _PINPOINTS,
    }


def _llava_onevision() -> dict[str, Any]:
    return {
        "text_config": text_part("qwen2"),
        "vision_config": siglip(12),
        "image_token_index": IMAGE,
        "video_token_index": VIDEO,
        "image_grid_pinpoints": _PINPOINTS,
    }


def _qwen2_vl() -> dict[str, Any]:
    tower = grid_tower(embed_dim=32, mlp_ratio=2)
    tower["hidden_size"] = 64  # the name of the output width in this family
    return {
        "text_config": text_part("qwen2_vl_text", rope_parameters=_MROPE),
        "vision_config": tower,
        **QWEN_IDS,
    }


def _qwen2_5_vl() -> dict[str, Any]:
    tower = grid_tower(intermediate_size=48, out_hidden_size=64, window_size=16, fullatt_block_indexes=[1])
    return {
        "text_config": text_part("qwen2_5_vl_text", rope_parameters=_MROPE),
        "vision_config": tower,
        **QWEN_IDS,
    }


def _qwen3_vl() -> dict[str, Any]:
    rope = {**_MROPE, "mrope_interleaved": True}
    tower = grid_tower(
        depth=3,
        intermediate_size=48,
        out_hidden_size=64,
        num_position_embeddings=64,
        deepstack_visual_indexes=[0, 1],
    )
    text = text_part("qwen3_vl_text", head_dim=16, rope_parameters=rope)
    return {"text_config": text, "vision_config": tower, **QWEN_IDS}


def _internvl() -> dict[str, Any]:
    tower = {"image_size": [32, 32], "patch_size": [4, 4], "model_type": "internvl_vision", **TOWER}
    return {
        "text_config": text_part("qwen2"),
        "vision_config": tower,
        "image_token_id": IMAGE,
        "image_seq_length": 16,
        "tie_word_embeddings": False,
    }


def _idefics(name: str) -> dict[str, Any]:
    tower = {"model_type": f"{name}_vision", "image_size": 24, "patch_size": 4, **TOWER}
    return {
        "text_config": text_part("llama", head_dim=16),
        "vision_config": tower,
        "image_token_id": IMAGE,
        "scale_factor": 2,
        "pad_token_id": 0,
    }


def _mistral3() -> dict[str, Any]:
    return {
        "text_config": text_part("mistral", head_dim=16, sliding_window=None),
        "vision_config": {"model_type": "pixtral", "image_size": 64, "patch_size": 4, **TOWER},
        "image_token_index": IMAGE,
        "spatial_merge_size": 2,
        "tie_word_embeddings": False,
    }


def _ministral3() -> dict[str, Any]:
    rope = {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 16,
        "llama_4_scaling_beta": 0.1,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
    }
    return _mistral3() | {"text_config": text_part("ministral3", head_dim=16, rope_parameters=rope)}


def _glm4v() -> dict[str, Any]:
    rope = {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [1, 1, 2],
        "partial_rotary_factor": 0.5,
    }
    tower = grid_tower(intermediate_size=48, out_hidden_size=64, image_size=32)
    ids = {"image_token_id": IMAGE, "video_token_id": VIDEO, "image_start_token_id": START}
    ids |= {"image_end_token_id": END, "video_start_token_id": 195, "video_end_token_id": 196}
    return {"text_config": text_part("glm4v_text", rope_parameters=rope), "vision_config": tower, **ids}


def _paligemma() -> dict[str, Any]:
    return {
        "text_config": text_part("gemma", head_dim=16, num_key_value_heads=1),
        "vision_config": siglip(16),
        "image_token_index": IMAGE,
        "vocab_size": VOCABULARY,
        "projection_dim": 64,
        "hidden_size": 64,
        "tie_word_embeddings": False,
    }


def _vipllava() -> dict[str, Any]:
    layers = {"vision_feature_layer": [-1, -2], "vision_feature_layers": [-1, -2]}  # renamed in 5.23
    return _llava() | layers


def _glm46v() -> dict[str, Any]:
    config = _glm4v()
    config["vision_config"]["model_type"] = "glm4v_vision"
    return config


def _qwen3_vl_moe() -> dict[str, Any]:
    config = _qwen3_vl()
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    config["text_config"] |= {"model_type": "qwen3_vl_moe_text", **experts}
    config["vision_config"] |= {"model_type": "qwen3_vl_moe_vision"}
    return config


def _sliding(window: int) -> dict[str, Any]:
    config = _qwen2_5_vl()
    config["text_config"] |= {"use_sliding_window": True, "sliding_window": window, "max_window_layers": 3}
    return config


SUPPORTED: dict[str, Callable[[], dict[str, Any]]] = {
    "llava": _llava,
    "llava_next": _llava_next,
    "llava_onevision": _llava_onevision,
    "qwen2_vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "internvl": _internvl,
    "idefics3": lambda: _idefics("idefics3"),
    "smolvlm": lambda: _idefics("smolvlm"),
    "mistral3": _mistral3,
    "glm4v": _glm4v,
    "paligemma": _paligemma,
}
# name: (model type, family whose inputs it takes, configuration)
VARIANTS: dict[str, tuple[str, str, Callable[[], dict[str, Any]]]] = {
    "ministral3": ("mistral3", "mistral3", _ministral3),
    "vipllava": ("vipllava", "llava", _vipllava),
    "glm46v": ("glm46v", "glm4v", _glm46v),
    "qwen3_vl_moe": ("qwen3_vl_moe", "qwen3_vl", _qwen3_vl_moe),
    "wide_window": ("qwen2_5_vl", "qwen2_5_vl", lambda: _sliding(64)),
    "narrow_window": ("qwen2_5_vl", "qwen2_5_vl", lambda: _sliding(12)),
}


# model type -> (the same, configuration), for every family that can be routed
TEMPLATES: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    **{name: (name, make) for name, make in SUPPORTED.items()},
    **{name: (VARIANTS[name][0], VARIANTS[name][2]) for name in ("vipllava", "glm46v", "qwen3_vl_moe")},
}


def _fill(name: str, weight: torch.Tensor) -> None:
    """Weights whose attention is peaked and whose greedy tokens vary, unlike the default initialisation."""
    if weight.dim() < 2:
        noise = torch.randn_like(weight) * 0.1
        weight.add_(noise)
        return
    fan_in = weight[0].numel()
    gain = 1.6 if ".q_proj" in name or ".k_proj" in name else 0.9
    weight.normal_(0.0, 1.0 if "embed" in name else gain / fan_in**0.5)


def build(family: str, attention: str) -> Any:
    """A seeded float32 model on the CPU in evaluation mode; `attention` is "sdpa" or "eager"."""
    model_type, _, make = VARIANTS.get(family) or (family, family, SUPPORTED[family])
    return from_configuration(CONFIG_MAPPING[model_type](**make()), attention)


def from_configuration(config: PreTrainedConfig, attention: str) -> Any:
    """The same for any configuration."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(0)  # torch.manual_seed would seed the accelerators, too
        model = AutoModelForImageTextToText.from_config(config, attn_implementation=attention).eval()
        torch.default_generator.manual_seed(7)
        for name, weight in model.named_parameters():
            _fill(name, weight)
        model.lm_head.weight[IMAGE:] = 0.0  # no marker is ever generated: it would stand for a picture
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model
