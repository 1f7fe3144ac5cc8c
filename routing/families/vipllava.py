"""ViP-LLaVA: LLaVA-1.5 whose projector joins several layers of the vision tower."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from routing.families import llava
from routing.families.family import ChatTemplate, images_first
from routing.towers import Config, Tower

LAYERS = (-2, -5, -8, -11, 6)  # of the tower, where a config does not say them
_VIP = (
    '{% if messages[0].role != "system" %}A chat between a curious human and an artificial intelligence '
    "assistant. The assistant gives helpful, detailed, and polite answers to the human's questions."
    "{% endif %}"
    '{% for m in messages %}{{ {"user": "###Human: ", "assistant": "###Assistant: "}.get(m.role, "") }}'
    f"{images_first(llava.IMAGE)}"
    "{% endfor %}{% if add_generation_prompt %}###Assistant:{% endif %}"
)


def chat_templates(config: Any) -> tuple[ChatTemplate, ...]:
    """The prompt of the checkpoint's page on the hub."""
    return (ChatTemplate(_VIP, "https://huggingface.co/llava-hf/vip-llava-7b-hf"),)


def tower(config: Config, text: int) -> Tower:
    """LLaVA's, with as many layers joined as the config says, whose setting was renamed in 5.23."""
    joined = config.get("vision_feature_layer", config.get("vision_feature_layers", LAYERS))
    return llava.tower({**config, "vision_feature_layer": joined}, text)


FAMILY = replace(
    llava.FAMILY,
    model_types=("vipllava",),
    title="ViP-LLaVA",
    tower=tower,
    chat_templates=chat_templates,
)
