"""LLaVA-NeXT: several tiles a picture; newline features stand at image token ids: visual tokens too."""

from __future__ import annotations

from typing import Any

from routing.families.family import ChatTemplate, Family, Shared, chatml, images_first
from routing.families.llava import IMAGE, VICUNA, beside_patches, image_side, llama_3, patch

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


FAMILY = Family(model_types=("llava_next",), title="LLaVA-NeXT", shared=shared, chat_templates=chat_templates)
