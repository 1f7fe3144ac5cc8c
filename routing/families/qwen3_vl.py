"""Qwen3-VL: deepstack adds vision features after the first decoder layers, so decisions start behind them."""

from __future__ import annotations

from typing import Any

from routing.families.encoders import MergedStage
from routing.families.family import (
    THOUSAND,
    ChatTemplate,
    Family,
    Grounding,
    image_and_video_tokens,
    patch_grid,
    setting,
)
from routing.families.qwen2_vl import PATCHES, grids, qwen_chat
from routing.towers import Config, Tower, given_or, grid_tower, merger


def after_deepstack(config: Any) -> int:
    """First decoder layer whose input has received every deepstack feature."""
    return len(setting(config, "vision_config.deepstack_visual_indexes", (8, 16, 24)))


def chat_templates(config: Any) -> tuple[ChatTemplate, ...]:
    """The one of the instructed checkpoints, without a system turn."""
    return qwen_chat("Qwen3-VL-8B-Instruct")


def tower(config: Config, _text: int) -> Tower:
    """Full attention, and a merger for what enters the decoder and for each deepstack feature."""
    defaults = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "out_hidden_size": 3584}
    sizes = given_or(config["vision_config"], {**defaults, **PATCHES, "num_heads": 16, "patch_size": 16})
    wide = sizes["hidden_size"]
    projector = merger(wide, sizes, sizes["out_hidden_size"]) * (1 + after_deepstack(config))
    return grid_tower(sizes, wide, sizes["intermediate_size"], projector=projector, merger=2)


# QwenLM/Qwen3-VL issues 991, 1427 and, for the words, 1721; cookbooks/2d_grounding.ipynb.
ASKED = (
    'Locate every object that matches the description "{ref}" in the image. '
    "Report bbox coordinates in JSON format."
)
FAMILY = Family(
    model_types=("qwen3_vl", "qwen3_vl_moe"),
    title="Qwen3-VL",
    grids=grids,
    tower=tower,
    grounding=Grounding(ASKED, THOUSAND),
    vision_stage=MergedStage(),
    shared=patch_grid,
    chat_templates=chat_templates,
    text="qwen3_vl_text",
    visual_tokens=image_and_video_tokens,
    first_layer=after_deepstack,
)
