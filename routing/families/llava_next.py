"""LLaVA-NeXT: several tiles a picture; newline features stand at image token ids: visual tokens too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt
from typing import Any

from routing.families import llava
from routing.families.encoders import PatchStage
from routing.families.family import (
    ChatTemplate,
    Family,
    Shared,
    chatml,
    images_first,
    number,
    setting,
)
from routing.families.llava import (
    GROUNDING,
    IMAGE,
    PATCH,
    SIDE,
    VICUNA,
    beside_patches,
    image_side,
    llama_3,
    patch,
)
from routing.grids import DETAIL, OVERVIEW, Canvas, Grid, ImageGrids, Size, framed, spans, whole
from routing.towers import Config, Tower

_HUB = "https://huggingface.co/llava-hf"
_MISTRAL = (
    '{% for m in messages %}{% if m.role == "user" %}[INST] {% endif %}'
    f"{images_first(IMAGE, after=' ')}"
    '{% if m.role == "user" %}[/INST]{% endif %}{% endfor %}'
)


def tile_grid(config: Any) -> Shared:
    """The layouts of tiles in pixels: the model undoes the one that the processor chose."""
    layouts = [list(layout) for layout in config.image_grid_pinpoints]

    def holds(processor: Any) -> bool:
        return sorted(map(list, processor.image_processor.image_grid_pinpoints)) == sorted(layouts)

    return Shared({"image_processor.image_grid_pinpoints": layouts}, "image_grid_pinpoints", holds)


def shared(config: Any, processor: Any) -> tuple[Shared, ...]:
    """What LlavaNextProcessor must have as the config says it."""
    return (
        *patch(config),
        *beside_patches(config),
        tile_grid(config),
        *image_side(config, processor),
    )


def chat_templates(config: Any) -> tuple[ChatTemplate, ...]:
    """By decoder: Mistral, Qwen (72B), Llama 3, Yi (34B) and Vicuna, as the hub has them."""
    decoder = config.get_text_config().model_type
    if decoder == "mistral":
        return (ChatTemplate(_MISTRAL, f"{_HUB}/llava-v1.6-mistral-7b-hf"),)
    if decoder == "qwen2":
        return (chatml(images_first("<image>", r"\n"), f"{_HUB}/llava-next-72b-hf"),)
    if decoder != "llama":
        return ()
    return (
        llama_3(f"{_HUB}/llama3-llava-next-8b-hf"),
        chatml(images_first(IMAGE), f"{_HUB}/llava-v1.6-34b-hf"),
        ChatTemplate(VICUNA, f"{_HUB}/llava-v1.6-vicuna-7b-hf"),
    )


def best_canvas(canvases: Sequence[Sequence[int]], size: Size) -> tuple[int, int]:
    """Of (height, width) canvases the one that shows most of the image, then the one that wastes least."""
    width, height = size

    def worth(canvas: Sequence[int]) -> tuple[int, int]:
        scale = min(canvas[1] / width, canvas[0] / height)
        shown = min(int(width * scale) * int(height * scale), width * height)
        return shown, shown - canvas[0] * canvas[1]

    high, wide = max(canvases, key=worth)
    return high, wide


def any_resolution(config: Any, image: Any, size: Size, most: int | None) -> ImageGrids:
    """The whole image, then its tiles as one canvas without padding, with a token at each row's end.

    most: a canvas of many more patches than so many tiles have is scaled down.
    """
    kind = setting(config, "vision_config.model_type", "clip_vision_model")
    side = number(config, "vision_config.image_size", SIDE)
    one = number(config, "vision_config.patch_size", PATCH.get(kind))
    canvases = setting(image, "image_grid_pinpoints", setting(config, "image_grid_pinpoints"))
    high, wide = best_canvas(canvases, size)
    canvas = Canvas(side, one, high // side, wide // side, size)
    top, bottom, left, right = canvas.shown
    rows, columns = bottom - top, right - left
    if most and (shrink := sqrt(rows * columns / (most * canvas.side**2))) > 1.1:
        rows, columns = int(rows // shrink), int(columns // shrink)
    down = canvas.original(spans(rows, top, (bottom - top) / rows) if rows else (), 1)
    across = canvas.original(spans(columns, left, (right - left) / columns) if columns else (), 0)
    overview = framed(whole(size), (side, side), one, view=OVERVIEW)
    detail = Grid(DETAIL, down, across, overview.count, row_ends=True)
    return ImageGrids(
        ((1, canvas.side, canvas.side),) * (1 + canvas.rows * canvas.columns), (detail, overview)
    )


def grids(config: Any, image: Any, size: Size) -> ImageGrids:
    """As many tiles as the best canvas has."""
    return any_resolution(config, image, size, most=None)


def tower(config: Config, text: int) -> Tower:
    """LLaVA's, whose tiles are put together afterwards."""
    return replace(llava.tower(config, text), repacked=True)


FAMILY = Family(
    model_types=("llava_next",),
    title="LLaVA-NeXT",
    grids=grids,
    tower=tower,
    grounding=GROUNDING,
    vision_stage=PatchStage(packed=True),
    shared=shared,
    chat_templates=chat_templates,
)
