"""Qwen2.5-VL: dynamic resolution, windowed vision tower, M-RoPE."""

from __future__ import annotations

from typing import Any

from routing.families.family import ChatTemplate, Family, image_and_video_tokens, patch_grid
from routing.families.qwen2_vl import SYSTEM, qwen_chat


def chat_templates(config: Any) -> tuple[ChatTemplate, ...]:
    """The one of the instructed checkpoints."""
    return qwen_chat("Qwen2.5-VL-7B-Instruct", SYSTEM)


FAMILY = Family(
    model_types=("qwen2_5_vl",),
    title="Qwen2.5-VL",
    visual_tokens=image_and_video_tokens,
    shared=patch_grid,
    chat_templates=chat_templates,
)
