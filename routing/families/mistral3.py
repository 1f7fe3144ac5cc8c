"""Mistral Small 3 and Pixtral-like models: row breaks and image ends are text tokens."""

from __future__ import annotations

from typing import Any

from routing.families.encoders import PatchStage
from routing.families.family import NO_BOXES, ChatTemplate, Family, Shared, in_order, number
from routing.families.llava import cells
from routing.grids import ImageGrids, Size
from routing.towers import Config, Tower, feature_layers, fixed_tower, given_or

SIDE, PATCH, MERGE = 1024, 16, 2  # pixels, pixels and patches, where a config does not say them
VIT = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_channels": 3,
}

# The tokenizer itself begins a text with <s>.
_MISTRAL = (
    '{% for m in messages %}{{ {"system": "[SYSTEM_PROMPT]", "user": "[INST]"}.get(m.role, "") }}'
    f"{in_order('[IMG]')}"
    '{{ {"system": "[/SYSTEM_PROMPT]", "user": "[/INST]"}.get(m.role, eos_token) }}{% endfor %}'
)


def shared(config: Any, processor: Any) -> tuple[Shared, ...]:
    """What PixtralProcessor must have as the config says it; it reads only the product of the two."""
    patch, merged = int(config.vision_config.patch_size), int(config.spatial_merge_size)

    def holds(processor: Any) -> bool:
        sides = (processor.patch_size, processor.spatial_merge_size)
        return None not in sides and bool(sides[0] * sides[1] == patch * merged)

    values = {"patch_size": patch, "spatial_merge_size": merged}
    return (Shared(values, "vision_config.patch_size and spatial_merge_size", holds),)


def chat_templates(config: Any) -> tuple[ChatTemplate, ...]:
    """Turns between [INST] and [/INST], without the long system turn that the checkpoint's page suggests."""
    source = "https://huggingface.co/mistralai/Mistral-Small-3.1-24B-Instruct-2503"
    return (ChatTemplate(_MISTRAL, source, ("[INST]", "[/INST]", "[IMG]")),)


def grids(config: Any, image: Any, size: Size) -> ImageGrids:
    """Squares of patches merged to one token."""
    return cells(config, image, size, merged(config))


def merged(config: Any) -> int:
    """Patches along the side of a visual token."""
    return number(config, "spatial_merge_size", MERGE)


def tower(config: Config, text: int) -> Tower:
    """One attention over all images of a prompt, gated MLPs, a merging map and two linear ones."""
    numbers = config["vision_config"]
    sizes, merge = given_or(numbers, VIT), merged(config) ** 2
    hidden = sizes["hidden_size"]
    projector = ((hidden * merge, hidden), (hidden * feature_layers(config), text), (text, text))
    side, patch = number(numbers, "image_size", SIDE), number(numbers, "patch_size", PATCH)
    return fixed_tower(sizes, side, patch, merge=merge, projector=projector, matrices=3, joint=True)


FAMILY = Family(
    model_types=("mistral3",),
    title="Mistral 3, Pixtral",
    grids=grids,
    tower=tower,
    grounding=NO_BOXES,
    vision_stage=PatchStage(exit="multi_modal_projector.patch_merger.merging_layer", side=merged),
    shared=shared,
    chat_templates=chat_templates,
    text="mistral",
)
