"""LLaVA-OneVision: tiles with newline features, and videos under a token id of their own."""

from __future__ import annotations

from typing import Any

from routing.families.encoders import PatchStage
from routing.families.family import (
    ChatTemplate,
    Family,
    Shared,
    chatml,
    image_and_video_tokens,
    images_first,
    number,
    setting,
)
from routing.families.llava import GROUNDING, IMAGE, image_side
from routing.families.llava_next import any_resolution, tile_grid, tower
from routing.grids import ImageGrids, Size


def shared(config: Any, processor: Any) -> tuple[Shared, ...]:
    """What LlavaOnevisionProcessor must have as the config says it."""
    vision = config.vision_config
    tokens = (number(vision, "image_size") // number(vision, "patch_size")) ** 2
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


def grids(config: Any, image: Any, size: Size) -> ImageGrids:
    """LLaVA-NeXT's canvas, scaled down where it has many more patches than vision_aspect_ratio's tiles."""
    most = str(setting(config, "vision_aspect_ratio", "anyres_max_9")).removeprefix("anyres_max_")
    return any_resolution(config, image, size, most=int(most))


FAMILY = Family(
    model_types=("llava_onevision",),
    title="LLaVA-OneVision",
    grids=grids,
    tower=tower,
    grounding=GROUNDING,
    vision_stage=PatchStage(packed=True),
    shared=shared,
    chat_templates=chat_templates,
    text="qwen2",
    visual_tokens=image_and_video_tokens,
)
