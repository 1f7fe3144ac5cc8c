"""A tiny model that the engine must refuse.

Knows the configurations of transformers; nothing of the engine under test.
"""

import torch
from transformers import CONFIG_MAPPING

from routing.checks.configs import IMAGE, from_configuration, text_part


def refused() -> torch.nn.Module:
    """A model whose visual tokens are outside of the sequence."""
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
    config = {"text_config": text, "vision_config": tower, "image_token_index": IMAGE}
    return from_configuration(CONFIG_MAPPING["mllama"](**config), "sdpa")
