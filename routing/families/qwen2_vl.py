"""Qwen2-VL: dynamic resolution, 2x2 merged patches, M-RoPE."""

from __future__ import annotations

from typing import Any

from routing.families.family import ChatTemplate, Family, chatml, image_and_video_tokens, in_order, patch_grid

IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
IMAGE_TOKENS = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")
SYSTEM = "You are a helpful assistant."


def qwen_chat(checkpoint: str, system: str = "") -> tuple[ChatTemplate, ...]:
    """ChatML as chat_template.json of a checkpoint has it on the hub, with its system turn if any."""
    return (chatml(in_order(IMAGE), f"https://huggingface.co/Qwen/{checkpoint}", system, IMAGE_TOKENS),)


def chat_templates(config: Any) -> tuple[ChatTemplate, ...]:
    """The one of the instructed checkpoints."""
    return qwen_chat("Qwen2-VL-7B-Instruct", SYSTEM)


FAMILY = Family(
    model_types=("qwen2_vl",),
    title="Qwen2-VL",
    visual_tokens=image_and_video_tokens,
    shared=patch_grid,
    chat_templates=chat_templates,
)
