"""Qwen2-VL: dynamic resolution, 2x2 merged patches, M-RoPE."""

from __future__ import annotations

from math import ceil, floor, sqrt
from typing import Any

from routing.families.encoders import MergedStage
from routing.families.family import (
    THOUSAND,
    ChatTemplate,
    Family,
    Grounding,
    chatml,
    image_and_video_tokens,
    in_order,
    number,
    patch_grid,
    setting,
)
from routing.grids import ImageGrids, Size, covered, whole
from routing.towers import Config, Tower, given_or, grid_tower, merger

IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
IMAGE_TOKENS = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")
SYSTEM = "You are a helpful assistant."
PATCHES = {"in_channels": 3, "patch_size": 14, "temporal_patch_size": 2, "spatial_merge_size": 2}


def qwen_chat(checkpoint: str, system: str = "") -> tuple[ChatTemplate, ...]:
    """ChatML as chat_template.json of a checkpoint has it on the hub, with its system turn if any."""
    return (chatml(in_order(IMAGE), f"https://huggingface.co/Qwen/{checkpoint}", system, IMAGE_TOKENS),)


def chat_templates(config: Any) -> tuple[ChatTemplate, ...]:
    """The one of the instructed checkpoints."""
    return qwen_chat("Qwen2-VL-7B-Instruct", SYSTEM)


def merged(image: Any, size: Size, rows: int, columns: int) -> ImageGrids:
    """The image stretched to rows x columns of visual tokens, each a square of merged patches."""
    merge = number(image, "merge_size")
    return ImageGrids(((1, rows * merge, columns * merge),), (covered(whole(size), rows, columns),))


def area(image: Any) -> tuple[int, int]:
    """Fewest and most pixels of a resized image, under either of the names that hub files give them."""
    least = setting(image, "min_pixels") or number(
        image, "size.min_pixels", setting(image, "size.shortest_edge")
    )
    most = setting(image, "max_pixels") or number(
        image, "size.max_pixels", setting(image, "size.longest_edge")
    )
    return int(least), int(most)


def grids(_config: Any, image: Any, size: Size) -> ImageGrids:
    """The nearest multiples of a merged patch, then shrunk or enlarged until the area is allowed."""
    cell, (width, height), (least, most) = (
        number(image, "patch_size") * number(image, "merge_size"),
        size,
        area(image),
    )
    rows, columns = round(height / cell), round(width / cell)
    if rows * columns * cell**2 > most:
        shrink = sqrt(width * height / most)
        rows, columns = (max(1, floor(side / shrink / cell)) for side in (height, width))
    elif rows * columns * cell**2 < least:
        grow = sqrt(least / (width * height))
        rows, columns = (ceil(side * grow / cell) for side in (height, width))
    return merged(image, size, rows, columns)


def tower(config: Config, _text: int) -> Tower:
    """Full attention, and a merger of two linear maps."""
    defaults = {
        "depth": 32,
        "embed_dim": 1280,
        "mlp_ratio": 4,
        "hidden_size": 3584,
        "num_heads": 16,
        **PATCHES,
    }
    sizes = given_or(config["vision_config"], defaults)
    wide = sizes["embed_dim"]
    projector = merger(wide, sizes, sizes["hidden_size"])
    return grid_tower(sizes, wide, wide * sizes["mlp_ratio"], projector=projector, merger=2)


# [0, 1000): its paper, arxiv.org/abs/2409.12191, "Data Format"; the words are Qwen2.5-VL's.
ASKED = "Locate {ref} in this image and output the bbox coordinates in JSON format."
FAMILY = Family(
    model_types=("qwen2_vl",),
    title="Qwen2-VL",
    grids=grids,
    tower=tower,
    grounding=Grounding(ASKED, THOUSAND),
    vision_stage=MergedStage(),
    shared=patch_grid,
    chat_templates=chat_templates,
    text="qwen2_vl_text",
    visual_tokens=image_and_video_tokens,
)
