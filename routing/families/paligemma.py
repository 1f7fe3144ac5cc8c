"""PaliGemma: image and prompt attend to each other both ways, so masks are gathered, never dropped.

It has no chat: it was trained on prompts such as "answer en where is the cup?" (arXiv 2407.07726).
"""

from __future__ import annotations

from typing import Any

from routing.families.family import Family, Shared, first_side
from routing.families.llava import image_side


def shared(config: Any, processor: Any) -> tuple[Shared, ...]:
    """What PaliGemmaProcessor must have as the config says it."""
    tower = config.vision_config
    tokens = (first_side(tower.image_size) // first_side(tower.patch_size)) ** 2
    return (
        Shared({"image_seq_length": tokens}, "vision_config.image_size and patch_size", fills=False),
        *image_side(config, processor),
    )


FAMILY = Family(model_types=("paligemma",), title="PaliGemma", bidirectional=True, shared=shared)
