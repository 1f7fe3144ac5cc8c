"""InternVL: tiles reduced by pixel shuffle, all marked by one context token."""

from __future__ import annotations

from typing import Any

from routing.families.family import ChatTemplate, Family, Shared, chatml, first_side, in_order


def shared(config: Any, processor: Any) -> tuple[Shared, ...]:
    """What InternVLProcessor must have as the config says it; a tower fed other sides makes other counts."""
    tower, ratio = config.vision_config, config.downsample_ratio

    def tokens(side: int) -> int:
        return int((side // first_side(tower.patch_size) * ratio) ** 2)

    def holds(processor: Any) -> bool:
        return bool(processor.image_seq_length == tokens(processor.image_processor.size["height"]))

    values = {"image_seq_length": tokens(first_side(tower.image_size))}
    return (Shared(values, "downsample_ratio, vision_config.image_size and patch_size", holds),)


def chat_templates(config: Any) -> tuple[ChatTemplate, ...]:
    """ChatML without a system turn, as chat_template.json has it on the hub."""
    source = "https://huggingface.co/OpenGVLab/InternVL3-8B-hf"
    return (chatml(in_order(r"<IMG_CONTEXT>\n"), source, tokens=("<IMG_CONTEXT>",)),)


FAMILY = Family(
    model_types=("internvl",),
    title="InternVL 2.5 / 3",
    shared=shared,
    chat_templates=chat_templates,
)
