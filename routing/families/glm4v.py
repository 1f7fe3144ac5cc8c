"""GLM-4.1V / GLM-4.5V: partial rotary embeddings; videos use the image token too."""

from __future__ import annotations

from math import ceil, floor, sqrt
from typing import Any

from routing.families.encoders import MergedStage
from routing.families.family import (
    THOUSAND,
    ChatTemplate,
    Family,
    Grounding,
    image_and_video_tokens,
    in_order,
    number,
    patch_grid,
)
from routing.families.qwen2_vl import PATCHES, area, merged
from routing.grids import ImageGrids, Size
from routing.towers import Config, Tower, given_or, grid_tower

_GLM = (
    '[gMASK]<sop>{% for m in messages %}{{ "<|" + m.role + "|>\n" }}'
    f"{in_order('<|begin_of_image|><|image|><|end_of_image|>')}{{% endfor %}}"
    '{% if add_generation_prompt %}{{ "<|assistant|>\n" }}{% endif %}'
)
_TOKENS = (
    "[gMASK]",
    "<sop>",
    "<|user|>",
    "<|assistant|>",
    "<|begin_of_image|>",
    "<|image|>",
    "<|end_of_image|>",
)


def chat_templates(config: Any) -> tuple[ChatTemplate, ...]:
    """Roles as tokens of their own; the answer is left to begin with the model's reasoning."""
    return (ChatTemplate(_GLM, "https://huggingface.co/zai-org/GLM-4.1V-9B-Thinking", _TOKENS),)


def grids(_config: Any, image: Any, size: Size) -> ImageGrids:
    """As Qwen's, but the area is that of all frames of a patch, and tiny images are enlarged to a cell."""
    cell, frames = (
        number(image, "patch_size") * number(image, "merge_size"),
        number(image, "temporal_patch_size", 2),
    )
    least, most = area(image)
    width, height = size
    if min(size) < cell:
        scale = max(cell / height, cell / width)
        width, height = int(width * scale), int(height * scale)
    rows, columns = round(height / cell), round(width / cell)
    if frames * rows * columns * cell**2 > most:
        shrink = sqrt(frames * width * height / most)
        rows, columns = (max(1, floor(side / shrink / cell)) for side in (height, width))
    elif frames * rows * columns * cell**2 < least:
        grow = sqrt(least / (frames * width * height))
        rows, columns = (ceil(side * grow / cell) for side in (height, width))
    return merged(image, size, rows, columns)


def tower(config: Config, _text: int) -> Tower:
    """Gated MLPs as wide as the decoder, a downsampling of squares of patches, and a gated merger."""
    defaults = {
        "depth": 24,
        "hidden_size": 1536,
        "intermediate_size": 13696,
        "out_hidden_size": 4096,
        "num_heads": 12,
        **PATCHES,
    }
    sizes = given_or(config["vision_config"], defaults)
    hidden, out, wide = sizes["hidden_size"], sizes["out_hidden_size"], sizes["intermediate_size"]
    downsample = (hidden * sizes["spatial_merge_size"] ** 2, out)
    projector = (downsample, (out, out), (out, wide), (out, wide), (wide, out))
    return grid_tower(sizes, hidden, out, matrices=3, projector=projector, merger=len(projector))


# The brackets may be of any kind: zai-org/GLM-V, README, Grounding.
ASKED = "Help me to locate {ref} in the image and give me its bounding boxes."
FAMILY = Family(
    model_types=("glm4v", "glm46v"),
    title="GLM-4.1V",
    grids=grids,
    tower=tower,
    grounding=Grounding(ASKED, THOUSAND),
    vision_stage=MergedStage(downsampled=True),
    shared=patch_grid,
    chat_templates=chat_templates,
    text="glm4v_text",
    visual_tokens=image_and_video_tokens,
)
