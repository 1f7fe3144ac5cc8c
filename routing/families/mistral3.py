"""Mistral Small 3 and Pixtral-like models: row breaks and image ends are text tokens."""

from __future__ import annotations

from typing import Any

from routing.families.family import ChatTemplate, Family, Shared, in_order

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


FAMILY = Family(
    model_types=("mistral3",), title="Mistral 3, Pixtral", shared=shared, chat_templates=chat_templates
)
