"""Idefics3 and SmolVLM: tiles separated by text tokens, decoder under `text_model`."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

from routing.families.encoders import PatchStage
from routing.families.family import (
    NO_BOXES,
    ChatTemplate,
    Family,
    Shared,
    in_order,
    number,
    setting,
)
from routing.grids import ImageGrids, Size, tiled
from routing.towers import Config, Tower, fixed_tower, given_or

LONGEST = 4096  # pixels: no side of an image that is cut is longer
SIDE, PATCH = 224, 32  # pixels, where a config does not say them
VIT = {
    "hidden_size": 1152,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "num_channels": 3,
}

_TURNS = (
    '{% for m in messages %}{{ m.role | capitalize }}:{% if m.content[0].type != "image" %} {% endif %}'
    f"{in_order('<image>')}"
    '{{ "<end_of_utterance>\n" }}{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}'
)


def shared(config: Any, processor: Any) -> tuple[Shared, ...]:
    """What Idefics3Processor must have as the config says it; tiles of other sides make other counts."""
    vision = config.vision_config

    def tokens(side: int) -> int:
        return (side // int(vision.patch_size)) ** 2 // int(config.scale_factor) ** 2

    def holds(processor: Any) -> bool:
        side = processor.image_processor.max_image_size["longest_edge"]
        return bool(processor.image_seq_len == tokens(side))

    values = {"image_seq_len": tokens(int(vision.image_size))}
    return (Shared(values, "scale_factor, vision_config.image_size and patch_size", holds),)


def chat_templates(config: Any) -> tuple[ChatTemplate, ...]:
    """SmolVLM's and Idefics3's differ in the token that they begin with, as chat_template.json has it."""
    smolvlm = "https://huggingface.co/HuggingFaceTB/SmolVLM-Instruct"
    idefics3 = "https://huggingface.co/HuggingFaceM4/Idefics3-8B-Llama3"
    return (
        ChatTemplate(f"<|im_start|>{_TURNS}", smolvlm, ("<|im_start|>", "<end_of_utterance>")),
        ChatTemplate(f"<|begin_of_text|>{_TURNS}", idefics3, ("<|begin_of_text|>", "<end_of_utterance>")),
    )


def grids(config: Any, image: Any, size: Size) -> ImageGrids:
    """Scaled to a longest side, cut into squares, and the whole beside them."""
    tile = number(image, "max_image_size.longest_edge")
    longest = min(number(image, "size.longest_edge"), LONGEST)
    shorter = int(longest / (max(size) / min(size)))
    shorter = max(1, shorter + shorter % 2)
    along = ceil(longest / tile)
    beside = max(1, ceil(int(along * tile / (longest / shorter)) / tile))
    if along == 1 or setting(image, "do_image_splitting", True) is False:
        along = beside = 1
    rows, columns = (beside, along) if size[0] >= size[1] else (along, beside)
    patch = number(config, "vision_config.patch_size", PATCH)
    return tiled(size, (tile, tile), patch, merged(config), rows, columns)


def merged(config: Any) -> int:
    """Patches along the side of a visual token."""
    return number(config, "scale_factor", 2)


def tower(config: Config, text: int) -> Tower:
    """A ViT, a pixel shuffle, and one linear map."""
    numbers = {key: value for key, value in config["vision_config"].items() if not isinstance(value, Mapping)}
    sizes, merge = given_or(numbers, VIT), merged(config) ** 2
    side, patch = number(numbers, "image_size", SIDE), number(numbers, "patch_size", PATCH)
    return fixed_tower(sizes, side, patch, merge=merge, projector=((sizes["hidden_size"] * merge, text),))


FAMILY = Family(
    model_types=("idefics3", "smolvlm"),
    title="Idefics3, SmolVLM",
    grids=grids,
    tower=tower,
    grounding=NO_BOXES,
    vision_stage=PatchStage("vision_model", "connector.modality_projection", merged),
    shared=shared,
    chat_templates=chat_templates,
    decoder="text_model",
)
