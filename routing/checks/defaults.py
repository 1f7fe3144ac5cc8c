"""Default configs of model types, as complete as those of their checkpoints.

The library's defaults leave out what every checkpoint gives, or show none of the layers that checkpoints of
the type have. What is added is no more than a decoder needs to be built, and no checkpoint's own.
"""

from __future__ import annotations

from typing import Any

from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from routing.errors import UnsupportedModelError

_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_CONVOLUTIONS = ["conv", "conv", "full_attention", "conv"] * 4  # the last of LFM2-VL's layers is one
_LEFT_OUT: dict[str, dict[str, Any]] = {
    "chameleon": {"vocabulary_map": {"<image>": 8711}},
    "cohere_compass": {
        "text_config": {"rope_parameters": {"full_attention": {**_ROPE, "mrope_section": [24, 20, 20]}}}
    },
    "deepseek_ocr2": {
        "text_config": {"mlp_layer_types": ["dense", *["sparse"] * 31], "num_experts_per_tok": 6}
    },
    "emu3": {"vocabulary_map": {"<image>": 151851}},
    "ernie4_5_vl_moe": {"text_config": {"rope_parameters": {**_ROPE, "mrope_section": [22, 22, 20]}}},
    "gemma4": {"text_config": {"num_kv_shared_layers": 12}},  # E2B and E4B share
    "granite4_vision": {
        "deepstack_layer_map": [[0, 0], [1, 1]],
        "spatial_target_layers": [12, 15, 18, 21],
        "downsample_rate": "4/8",
    },
    "hunyuan_vl": {"text_config": {"head_dim": 128, "rope_parameters": {**_ROPE, "mrope_section": [16] * 4}}},
    "lfm2_vl": {"text_config": {"num_hidden_layers": 16, "layer_types": _CONVOLUTIONS}},
    "perception_lm": {"vision_config": {"model_args": {"embed_dim": 1024}}},
    "qwen2_5_omni_thinker": {"vision_start_token_id": 151652, "audio_start_token_id": 151647},
    "qwen3_omni_moe_thinker": {"vision_start_token_id": 151652, "audio_start_token_id": 151669},
    "qwen4_exp": {
        "text_config": {
            "indexer_n_heads": 16,
            "indexer_kv_heads": 1,
            "indexer_head_dim": 128,
            "indexer_budget": 2048,
            "indexer_compress_ratio": 4,
            "rope_parameters": {**_ROPE, "partial_rotary_factor": 0.25, "mrope_section": [11, 11, 10]},
        }
    },
    "step3p7": {"text_config": {"sliding_window": 512}},
}
_IMAGE = 5  # where a default config leaves the id of image tokens open


def model_types() -> tuple[str, ...]:
    """Every image-text-to-text type of the installed transformers, in its order."""
    return tuple(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)


def default_config(kind: str) -> Any:
    """The default config of a model type, with what it leaves out.

    Raises UnsupportedModelError for what is no type of the installed transformers.
    """
    if kind not in CONFIG_MAPPING:
        raise UnsupportedModelError(f"{kind} is not a model type of the installed transformers")
    make, parts = CONFIG_MAPPING[kind], dict(_LEFT_OUT.get(kind, {}))
    for name, part in parts.items():
        if name.endswith("_config"):
            own = getattr(make(), name).to_dict()
            parts[name] = own | part
    config = make(**parts)
    if "image_token_id" in vars(config) and config.image_token_id is None:
        config.image_token_id = _IMAGE
    return config
