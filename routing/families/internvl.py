"""InternVL: tiles reduced by pixel shuffle, all marked by one context token."""

from __future__ import annotations

from itertools import product
from typing import Any

from routing.families.encoders import PatchStage
from routing.families.family import (
    THOUSAND,
    ChatTemplate,
    Family,
    Grounding,
    Shared,
    chatml,
    in_order,
    number,
    setting,
)
from routing.families.llava import ASKED
from routing.grids import ImageGrids, Size, tiled
from routing.towers import Config, Tower, fixed_tower, given_or

SIDE, PATCH = 448, 14  # pixels, where a config does not say them
VIT = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_channels": 3,
}


def shared(config: Any, processor: Any) -> tuple[Shared, ...]:
    """What InternVLProcessor must have as the config says it; a tower fed other sides makes other counts."""
    vision, ratio = config.vision_config, config.downsample_ratio

    def tokens(side: int) -> int:
        return int((side // number(vision, "patch_size") * ratio) ** 2)

    def holds(processor: Any) -> bool:
        return bool(processor.image_seq_length == tokens(processor.image_processor.size["height"]))

    values = {"image_seq_length": tokens(number(vision, "image_size"))}
    return (Shared(values, "downsample_ratio, vision_config.image_size and patch_size", holds),)


def chat_templates(config: Any) -> tuple[ChatTemplate, ...]:
    """ChatML without a system turn, as chat_template.json has it on the hub."""
    source = "https://huggingface.co/OpenGVLab/InternVL3-8B-hf"
    return (chatml(in_order(r"<IMG_CONTEXT>\n"), source, tokens=("<IMG_CONTEXT>",)),)


def arrangement(least: int, most: int, tile: Size, size: Size) -> tuple[int, int]:
    """(columns, rows) of tiles; of equally near ones the largest that the image fills by more than half."""
    width, height = size
    sides = range(1, most + 1)
    fitting = [pair for pair in product(sides, sides) if least <= pair[0] * pair[1] <= most]
    best, nearest = (1, 1), float("inf")
    for columns, rows in sorted(fitting, key=lambda pair: pair[0] * pair[1]):
        off = abs(width / height - columns / rows)
        filled = 2 * width * height > tile[0] * tile[1] * columns * rows
        if off < nearest or (off == nearest and filled):
            best, nearest = (columns, rows), off
    return best


def grids(config: Any, image: Any, size: Size) -> ImageGrids:
    """At most max_patches tiles, arranged to be nearest to the image's shape, and the whole."""
    tile = number(image, "size.width"), number(image, "size.height")
    least, most = number(image, "min_patches"), number(image, "max_patches")
    columns, rows = arrangement(least, most, tile, size)
    return tiled(size, tile, number(config, "vision_config.patch_size", PATCH), merged(config), rows, columns)


def merged(config: Any) -> int:
    """Patches along the side of a visual token."""
    ratio: float = setting(config, "downsample_ratio", 0.5)
    return round(1 / ratio)


def tower(config: Config, text: int) -> Tower:
    """A ViT with a CLS token, a pixel shuffle, and two linear maps."""
    numbers = config["vision_config"]
    sizes, merge = given_or(numbers, VIT), merged(config) ** 2
    projector = ((sizes["hidden_size"] * merge, text), (text, text))
    side, patch = number(numbers, "image_size", SIDE), number(numbers, "patch_size", PATCH)
    return fixed_tower(sizes, side, patch, merge=merge, projector=projector, extra=1)


# OpenGVLab/InternVL issue 285. internvl_chat/eval/refcoco there puts the expression between <ref> and </ref>:
# left out, as they are control tokens, which a question may not hold.
FAMILY = Family(
    model_types=("internvl",),
    title="InternVL 2.5 / 3",
    grids=grids,
    tower=tower,
    grounding=Grounding(ASKED, THOUSAND),
    vision_stage=PatchStage(side=merged),
    shared=shared,
    chat_templates=chat_templates,
    text="qwen2",
)
