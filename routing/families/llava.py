"""LLaVA-1.5 and models of its class: CLIP or SigLIP tower, MLP projector, any Llama-like decoder."""

from __future__ import annotations

from typing import Any

from routing.families.family import ChatTemplate, Family, Shared, chatml, first_side, images_first

_HUB = "https://huggingface.co/llava-hf"
IMAGE = r"<image>\n"
VICUNA = (
    '{% for m in messages %}{% if m.role != "system" %}{{ m.role | upper + ": " }}{% endif %}'
    f"{images_first(IMAGE, after=' ')}"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
_VIP = (
    '{% if messages[0].role != "system" %}A chat between a curious human and an artificial intelligence '
    "assistant. The assistant gives helpful, detailed, and polite answers to the human's questions."
    "{% endif %}"
    '{% for m in messages %}{{ {"user": "###Human: ", "assistant": "###Assistant: "}.get(m.role, "") }}'
    f"{images_first(IMAGE)}"
    "{% endfor %}{% if add_generation_prompt %}###Assistant:{% endif %}"
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
    if tower not in ("clip_vision_model", "siglip_vision_model"):
        return ()
    strategy = getattr(config, "vision_feature_select_strategy", "default")  # ViP-LLaVA's config has none
    extra = int(tower == "clip_vision_model")
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
    return () if side is None else (Shared({"patch_size": first_side(side)}, "vision_config.patch_size"),)


def image_side(config: Any, processor: Any) -> tuple[Shared, ...]:
    """The side of what a tower with learnt positions is fed, in pixels: it takes no other."""
    tower = config.vision_config
    if tower.model_type not in ("clip_vision_model", "siglip_vision_model"):
        return ()
    crops = getattr(processor.image_processor, "do_center_crop", None)
    place = f"image_processor.{'crop_size' if crops else 'size'}.height"
    return (Shared({place: first_side(tower.image_size)}, "vision_config.image_size", fills=False),)


def shared(config: Any, processor: Any) -> tuple[Shared, ...]:
    """What LlavaProcessor must have as the config says it, ViP-LLaVA's and Pixtral towers' included."""
    return (*patch(config), *beside_patches(config), *image_side(config, processor))


def chat_templates(config: Any) -> tuple[ChatTemplate, ...]:
    """By decoder: Vicuna and Mistral (LLaVA-1.5, BakLLaVA), Llama 3, Qwen2 (LLaVA-Interleave); Pixtral none.

    Each is the chat template or the prompt of the checkpoint's page on the hub. ViP-LLaVA has one of its own.
    """
    if config.model_type == "vipllava":
        return (ChatTemplate(_VIP, f"{_HUB}/vip-llava-7b-hf"),)
    decoder = config.get_text_config().model_type
    if decoder == "qwen2":
        return (chatml(images_first(IMAGE), f"{_HUB}/llava-interleave-qwen-7b-hf"),)
    if decoder not in ("llama", "mistral") or config.vision_config.model_type == "pixtral":
        return ()
    return (
        llama_3("https://huggingface.co/xtuner/llava-llama-3-8b-v1_1-transformers"),
        ChatTemplate(VICUNA, f"{_HUB}/llava-1.5-7b-hf"),
    )


FAMILY = Family(
    model_types=("llava", "vipllava"),
    title="LLaVA-1.5, ViP-LLaVA",
    shared=shared,
    chat_templates=chat_templates,
)
