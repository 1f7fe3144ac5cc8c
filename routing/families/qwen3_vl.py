"""Qwen3-VL: deepstack adds vision features after the first decoder layers, so decisions start behind them."""

from __future__ import annotations

from typing import Any

from routing.families.family import ChatTemplate, Family, image_and_video_tokens, patch_grid
from routing.families.qwen2_vl import qwen_chat


def after_deepstack(config: Any) -> int:
    """First decoder layer whose input has received every deepstack feature."""
    return len(config.vision_config.deepstack_visual_indexes)


def chat_templates(config: Any) -> tuple[ChatTemplate, ...]:
    """The one of the instructed checkpoints, without a system turn."""
    return qwen_chat("Qwen3-VL-8B-Instruct")


FAMILY = Family(
    model_types=("qwen3_vl", "qwen3_vl_moe"),
    title="Qwen3-VL",
    visual_tokens=image_and_video_tokens,
    first_layer=after_deepstack,
    shared=patch_grid,
    chat_templates=chat_templates,
)
