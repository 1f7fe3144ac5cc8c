"""Well-known models made small: the code path, processor and tokens of the real ones, in seconds on a CPU."""

import copy
from dataclasses import replace

import profiles

_TEXT = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 8192,
}
_DEEPER = {"qwen3_5": {"num_hidden_layers": 8, "head_dim": 64}}  # every fourth layer has attention
_TOWER = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_GRID_TOWER = {"depth": 2, "num_heads": 2, "hidden_size": 32, "intermediate_size": 32, "out_hidden_size": 64}
_GRID_TOWERS = {
    "qwen2_vl": {"depth": 2, "num_heads": 2, "embed_dim": 32, "mlp_ratio": 2, "hidden_size": 64},
    "qwen2_5_vl": {**_GRID_TOWER, "fullatt_block_indexes": [1]},
    "qwen3_vl": {**_GRID_TOWER, "deepstack_visual_indexes": [0, 1]},
    "qwen3_5": _GRID_TOWER,
}


def shrunk(name):
    """The entry of a well-known model with fewer, narrower layers; vocabulary and pictures stay real."""
    entry = profiles.model(name)
    config = copy.deepcopy(dict(entry.config))
    family = config["model_type"]
    config["text_config"] |= _TEXT | _DEEPER.get(family, {})
    config["vision_config"] |= _GRID_TOWERS.get(family, _TOWER)
    if rope := config["text_config"].get("rope_parameters"):
        config["text_config"]["rope_parameters"] = {**rope, "mrope_section": [2, 3, 3]}
    return replace(entry, config=config)
