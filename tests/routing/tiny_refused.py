"""Configurations of tiny models that the engine must refuse: their layers mix tokens in other ways.

Knows the configurations of transformers; nothing of the engine under test.
"""

import torch
from transformers import CONFIG_MAPPING

from routing.checks.configs import (
    END,
    IMAGE,
    QWEN_IDS,
    START,
    TOWER,
    from_configuration,
    grid_tower,
    siglip,
    text_part,
)


def _gemma3() -> dict:
    return {
        "text_config": text_part("gemma3_text", head_dim=16, sliding_window=8, query_pre_attn_scalar=16),
        "vision_config": siglip(16),
        "image_token_index": IMAGE,
        "boi_token_index": START,
        "eoi_token_index": END,
        "mm_tokens_per_image": 4,
    }


def _qwen3_5() -> dict:
    linear = {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
    linear |= {"linear_key_head_dim": 16, "linear_value_head_dim": 16}
    tower = grid_tower(intermediate_size=48, out_hidden_size=64, num_position_embeddings=64)
    return {
        "text_config": text_part("qwen3_5_text", head_dim=16, **linear),
        "vision_config": tower,
        **QWEN_IDS,
    }


def _lfm2_vl() -> dict:
    tower = {"model_type": "siglip2_vision_model", "patch_size": 4, "num_patches": 64, **TOWER}
    text = text_part("lfm2", block_multiple_of=16, full_attn_idxs=[1, 3, 5])
    return {"text_config": text, "vision_config": tower, "image_token_id": IMAGE, "projector_hidden_size": 64}


def _mllama() -> dict:
    tower = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_global_layers": 1,
        "attention_heads": 2,
        "image_size": 16,
        "patch_size": 4,
        "vision_output_dim": 64,
        "intermediate_layers_indices": [0],
        "supported_aspect_ratios": [[1, 1]],
        "max_num_tiles": 1,
    }
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    text = text_part("mllama_text_model", cross_attention_layers=[1, 3], rope_parameters=rope)
    return {"text_config": text, "vision_config": tower, "image_token_index": IMAGE}


REFUSED = {"gemma3": _gemma3, "qwen3_5": _qwen3_5, "lfm2_vl": _lfm2_vl, "mllama": _mllama}


def refused(family: str) -> torch.nn.Module:
    """A model of a family that cannot be routed."""
    return from_configuration(CONFIG_MAPPING[family](**REFUSED[family]()), "sdpa")
