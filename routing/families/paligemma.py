"""PaliGemma: image and prompt attend to each other both ways, so masks are gathered, never dropped.

It has no chat: it was trained on prompts such as "answer en where is the cup?" (arXiv 2407.07726).
"""

from __future__ import annotations

from typing import Any

from routing.families.encoders import PatchStage
from routing.families.family import Convention, Family, Grounding, Missing, Shared, number, whole_view
from routing.families.llava import PATCH, SIDE, VIT, image_side, one_frame
from routing.grids import ImageGrids, Size
from routing.towers import Config, Tower, fixed_tower, given_or

SIGLIP = "siglip_vision_model"


def shared(config: Any, processor: Any) -> tuple[Shared, ...]:
    """What PaliGemmaProcessor must have as the config says it."""
    tower = config.vision_config
    tokens = (number(tower, "image_size") // number(tower, "patch_size")) ** 2
    return (
        Shared({"image_seq_length": tokens}, "vision_config.image_size and patch_size", fills=False),
        *image_side(config, processor),
    )


def grids(config: Any, image: Any, size: Size) -> ImageGrids:
    """The image stretched to one square frame."""
    return one_frame(config, whole_view(image, size), SIGLIP)


def tower(config: Config, text: int) -> Tower:
    """SigLIP without its head, and one linear map."""
    numbers = config["vision_config"]
    if numbers.get("vision_use_head", True):
        raise NotImplementedError("the attention-pooling head of this tower is not modelled")
    sizes = given_or(numbers, VIT)
    side, patch = number(numbers, "image_size", SIDE), number(numbers, "patch_size", PATCH[SIGLIP])
    return fixed_tower(sizes, side, patch, merge=1, projector=((sizes["hidden_size"], text),))


# google-research/big_vision, configs/proj/paligemma/README.md; ai.google.dev/gemma/docs, PaliGemma, prompt
# and system instructions.
FAMILY = Family(
    model_types=("paligemma",),
    title="PaliGemma",
    grids=grids,
    one_size=True,
    tower=tower,
    grounding=Grounding("detect {ref}", Convention("<loc0000>–<loc1023>", 1024.0, y_first=True)),
    vision_stage=PatchStage(),
    shared=shared,
    chat_templates=Missing("it is asked as it was trained: its processor itself puts in the image"),
    text="gemma",
    bidirectional=True,
    task="answer en {question}",
)
