"""Qwen2.5-VL: dynamic resolution, windowed vision tower, M-RoPE."""

from __future__ import annotations

from typing import Any

from routing.families.family import ChatTemplate, Family, chatml, image_and_video_tokens, in_order, patch_grid
from routing.families.qwen2_vl import IMAGE, IMAGE_TOKENS, SYSTEM


def chat_templates(config: Any) -> tuple[ChatTemplate, ...]:
    """ChatML with a system turn, as chat_template.json has it on the hub."""
    return (
        chatml(in_order(IMAGE), "https://huggingface.co/Qwen/Qwen2.5-VL-7B-Instruct", SYSTEM, IMAGE_TOKENS),
    )


FAMILY = Family(
    model_types=("qwen2_5_vl",),
    title="Qwen2.5-VL",
    visual_tokens=image_and_video_tokens,
    shared=patch_grid,
    chat_templates=chat_templates,
)
