"""GLM-4.1V / GLM-4.5V: partial rotary embeddings; videos use the image token too."""

from __future__ import annotations

from typing import Any

from routing.families.family import ChatTemplate, Family, image_and_video_tokens, in_order, patch_grid

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


FAMILY = Family(
    model_types=("glm4v", "glm46v"),
    title="GLM-4.1V",
    visual_tokens=image_and_video_tokens,
    shared=patch_grid,
    chat_templates=chat_templates,
)
