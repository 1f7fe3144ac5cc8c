"""Qwen2.5-VL: dynamic resolution, windowed vision tower, M-RoPE."""

from __future__ import annotations

from typing import Any

from routing.families.encoders import MergedStage
from routing.families.family import (
    ChatTemplate,
    Convention,
    Family,
    Grounding,
    image_and_video_tokens,
    patch_grid,
)
from routing.families.qwen2_vl import ASKED, PATCHES, SYSTEM, grids, qwen_chat
from routing.towers import Config, Tower, given_or, grid_tower, merger


def chat_templates(config: Any) -> tuple[ChatTemplate, ...]:
    """The one of the instructed checkpoints."""
    return qwen_chat("Qwen2.5-VL-7B-Instruct", SYSTEM)


def tower(config: Config, _text: int) -> Tower:
    """Attention in windows but for a few blocks, gated MLPs, and a merger of two linear maps."""
    defaults = {
        "depth": 32,
        "hidden_size": 3584,
        "intermediate_size": 3420,
        "out_hidden_size": 3584,
        "num_heads": 16,
        "window_size": 112,
        **PATCHES,
    }
    sizes = given_or(config["vision_config"], defaults)
    wide, merge = sizes["hidden_size"], sizes["spatial_merge_size"]
    return grid_tower(
        sizes,
        wide,
        sizes["intermediate_size"],
        matrices=3,
        projector=merger(wide, sizes, sizes["out_hidden_size"]),
        merger=2,
        window=sizes["window_size"] // (sizes["patch_size"] * merge) * merge,
        full=tuple(config["vision_config"].get("fullatt_block_indexes", (7, 15, 23, 31))),
    )


# QwenLM/Qwen3-VL issues 991 (its authors' words) and 1427, cookbooks/2d_grounding.ipynb.
FAMILY = Family(
    model_types=("qwen2_5_vl",),
    title="Qwen2.5-VL",
    grids=grids,
    tower=tower,
    grounding=Grounding(ASKED, Convention("pixels of the resized picture", None)),
    vision_stage=MergedStage(),
    shared=patch_grid,
    chat_templates=chat_templates,
    text="qwen2_5_vl_text",
    visual_tokens=image_and_video_tokens,
)
