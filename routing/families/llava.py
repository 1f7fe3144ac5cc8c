"""LLaVA-1.5 and models of its class: CLIP or SigLIP tower, MLP projector, any Llama-like decoder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import ceil, floor
from typing import Any

from routing.families.encoders import PatchStage
from routing.families.family import (
    CLASS_TOKENS,
    UNIT,
    ChatTemplate,
    Family,
    Grounding,
    Shared,
    chatml,
    images_first,
    number,
    setting,
    whole_view,
)
from routing.grids import ImageGrids, Size, View, covered, framed, whole
from routing.towers import Config, Tower, feature_layers, fixed_tower, given_or

_HUB = "https://huggingface.co/llava-hf"
IMAGE = r"<image>\n"
VIT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
}
PATCH = {"clip_vision_model": 32, "siglip_vision_model": 16}  # pixels, where a config does not say it
SIDE = 224  # pixels of an image, likewise
CELL = 16  # pixels of a patch of Pixtral's, likewise
VICUNA = (
    '{% for m in messages %}{% if m.role != "system" %}{{ m.role | upper + ": " }}{% endif %}'
    f"{images_first(IMAGE, after=' ')}"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def llama_3(source: str) -> ChatTemplate:
    """The headers of Llama 3 around images and text."""
    text = (
        r'{% for m in messages %}{{ "<|start_header_id|>" + m.role + "<|end_header_id|>\n\n" }}'
        + images_first("<image>", r"\n", "<|eot_id|>")
        + "{% endfor %}{% if add_generation_prompt %}"
        + r'{{ "<|start_header_id|>assistant<|end_header_id|>\n\n" }}{% endif %}'
    )
    return ChatTemplate(text, source, ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"))


def beside_patches(config: Any) -> tuple[Shared, ...]:
    """How many tokens an image has beside those of its patches: a CLS token that is there, one that goes.

    Two wrongs that make up for each other agree: "full" without a CLS token counts as "default" does with it.
    """
    tower = config.vision_config.model_type
    if tower not in CLASS_TOKENS:
        return ()
    strategy = getattr(config, "vision_feature_select_strategy", "default")  # ViP-LLaVA's config has none
    extra = CLASS_TOKENS[tower]
    wanted = extra - (strategy == "default")

    def holds(processor: Any) -> bool:
        added = processor.num_additional_image_tokens
        dropped = processor.vision_feature_select_strategy == "default"
        return added is not None and bool(added - dropped == wanted)

    values = {"vision_feature_select_strategy": strategy, "num_additional_image_tokens": extra}
    return (Shared(values, "vision_feature_select_strategy and vision_config.model_type", holds),)


def patch(config: Any) -> tuple[Shared, ...]:
    """The side of a patch in pixels; towers without patches have none."""
    side = getattr(config.vision_config, "patch_size", None)
    return (
        ()
        if side is None
        else (Shared({"patch_size": number(config, "vision_config.patch_size")}, "vision_config.patch_size"),)
    )


def image_side(config: Any, processor: Any) -> tuple[Shared, ...]:
    """The side of what a tower with learnt positions is fed, in pixels: it takes no other."""
    tower = config.vision_config
    if tower.model_type not in CLASS_TOKENS:
        return ()
    crops = getattr(processor.image_processor, "do_center_crop", None)
    place = f"image_processor.{'crop_size' if crops else 'size'}.height"
    return (Shared({place: number(tower, "image_size")}, "vision_config.image_size", fills=False),)


def shared(config: Any, processor: Any) -> tuple[Shared, ...]:
    """What LlavaProcessor must have as the config says it, ViP-LLaVA's and Pixtral towers' included."""
    return (*patch(config), *beside_patches(config), *image_side(config, processor))


def chat_templates(config: Any) -> tuple[ChatTemplate, ...]:
    """By decoder: Vicuna and Mistral (LLaVA-1.5, BakLLaVA), Llama 3, Qwen2 (LLaVA-Interleave); Pixtral none.

    Each is the chat template or the prompt of the checkpoint's page on the hub.
    """
    decoder = config.get_text_config().model_type
    if decoder == "qwen2":
        return (chatml(images_first(IMAGE), f"{_HUB}/llava-interleave-qwen-7b-hf"),)
    if decoder not in ("llama", "mistral") or config.vision_config.model_type == "pixtral":
        return ()
    return (
        llama_3("https://huggingface.co/xtuner/llava-llama-3-8b-v1_1-transformers"),
        ChatTemplate(VICUNA, f"{_HUB}/llava-1.5-7b-hf"),
    )


def one_frame(config: Any, view: View, kind: str = "clip_vision_model") -> ImageGrids:
    """One square frame, before whose patches a CLS token stands that is not dropped.

    view: what the frame shows. kind: model_type of the tower where the config does not say it.
    """
    kind = setting(config, "vision_config.model_type", kind)
    side = number(config, "vision_config.image_size", SIDE)
    patch = number(config, "vision_config.patch_size", PATCH.get(kind))
    full = setting(config, "vision_feature_select_strategy", "default") == "full"
    extra = CLASS_TOKENS.get(kind, 0) if full else 0
    cells = framed(view.box, (side, side), patch, first=extra)
    return ImageGrids(((1, side // patch, side // patch),), (cells,), extra)


def cells(config: Any, image: Any, size: Size, merge: int) -> ImageGrids:
    """The image stretched to whole cells of merge x merge patches; what ends a row is text.

    It is only ever made smaller, until it fits the longest side that the processor allows.
    """
    longest = number(image, "size.longest_edge", None)
    width, height = size
    if (ratio := max(size) / longest) > 1:
        width, height = floor(width / ratio), floor(height / ratio)
    cell = number(config, "vision_config.patch_size", CELL) * merge
    rows, columns = ceil(height / cell), ceil(width / cell)
    return ImageGrids(((1, rows * merge, columns * merge),), (covered(whole(size), rows, columns),))


def grids(config: Any, image: Any, size: Size) -> ImageGrids:
    """One square frame; Pixtral-12B, which calls itself llava, sees the whole image in cells."""
    if setting(config, "vision_config.model_type") == "pixtral":
        return cells(config, image, size, number(config, "spatial_merge_size", 1))
    return one_frame(config, view(image, size))


def view(image: Any, size: Size) -> View:
    """The square that the image is padded to, or the centre that is cropped from it once it is resized.

    Raises AttributeError where a loaded processor does not tell: what a model saw can't be guessed.
    """
    told = image.get if isinstance(image, Mapping) else partial(getattr, image)
    width, height = size
    if told("do_pad"):
        side = max(size)
        return View(-float((side - width) // 2), -float((side - height) // 2), side, side, side, side)
    if not told("do_center_crop"):
        return whole_view(image, size)
    crop, resized = told("crop_size"), told("size")
    columns, rows = number(crop, "width"), number(crop, "height")
    wide, high = setting(resized, "width", width), setting(resized, "height", height)
    if shortest := setting(resized, "shortest_edge"):
        longest = int(shortest * max(size) / min(size))
        wide, high = (longest, shortest) if width > height else (shortest, longest)
    x, y = width / wide, height / high
    return View((wide - columns) // 2 * x, (high - rows) // 2 * y, columns * x, rows * y, columns, rows)


def tower(config: Config, text: int) -> Tower:
    """CLIP without its CLS token, or SigLIP without its head, and two linear maps."""
    numbers = config["vision_config"]
    kind = str(numbers.get("model_type", "clip_vision_model"))
    if kind not in CLASS_TOKENS:
        raise NotImplementedError(f"a {kind} tower is not modelled")
    extra = CLASS_TOKENS[kind]
    if not extra and numbers.get("vision_use_head", True):
        raise NotImplementedError("the attention-pooling head of this tower is not modelled")
    if extra and config.get("vision_feature_select_strategy", "default") == "full":
        raise NotImplementedError("projecting the CLS token is not modelled")
    sizes = given_or(numbers, VIT)
    return fixed_tower(
        sizes,
        number(numbers, "image_size", SIDE),
        number(numbers, "patch_size", PATCH[kind]),
        merge=1,
        projector=((sizes["hidden_size"] * feature_layers(config), text), (text, text)),
        extra=extra,
    )


# Of the square that the model sees, padding included: github.com/haotian-liu/LLaVA issue 606; the words are
# those of its training data (llava_v1_5_mix665k). The embedded model belongs to this family and is asked in
# the same words, though it was trained on its own: "where is the {ref}?".
ASKED = "Please provide the bounding box coordinate of the region this sentence describes: {ref}"
GROUNDING = Grounding(ASKED, UNIT)
FAMILY = Family(
    model_types=("llava",),
    title="LLaVA-1.5",
    grids=grids,
    view=view,
    one_size=True,
    tower=tower,
    grounding=GROUNDING,
    vision_stage=PatchStage(),
    shared=shared,
    chat_templates=chat_templates,
)
