"""LLaVA-OneVision: tiles with newline features, and videos under a token id of their own."""

from __future__ import annotations

from typing import Any

from routing.families.family import (
    ChatTemplate,
    Family,
    Shared,
    chatml,
    first_side,
    image_and_video_tokens,
    images_first,
)
from routing.families.llava import IMAGE, image_side
from routing.families.llava_next import tile_grid


def shared(config: Any, processor: Any) -> tuple[Shared, ...]:
    """What LlavaOnevisionProcessor must have as the config says it."""
    tower = config.vision_config
    tokens = (first_side(tower.image_size) // first_side(tower.patch_size)) ** 2
    strategy, aspect = "vision_feature_select_strategy", "vision_aspect_ratio"
    return (
        Shared({"num_image_tokens": tokens}, "vision_config.image_size and patch_size"),
        Shared({strategy: getattr(config, strategy)}, strategy),
        Shared({aspect: getattr(config, aspect)}, aspect),
        tile_grid(config),
        *image_side(config, processor),
    )


def chat_templates(config: Any) -> tuple[ChatTemplate, ...]:
    """ChatML without a system turn, as chat_template.json has it on the hub."""
    return (chatml(images_first(IMAGE), "https://huggingface.co/llava-hf/llava-onevision-qwen2-7b-ov-hf"),)


FAMILY = Family(
    model_types=("llava_onevision",),
    title="LLaVA-OneVision",
    visual_tokens=image_and_video_tokens,
    shared=shared,
    chat_templates=chat_templates,
)
