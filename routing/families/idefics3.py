"""Idefics3 and SmolVLM: tiles separated by text tokens, decoder under `text_model`."""

from __future__ import annotations

from typing import Any

from routing.families.family import ChatTemplate, Family, Shared, in_order

_TURNS = (
    '{% for m in messages %}{{ m.role | capitalize }}:{% if m.content[0].type != "image" %} {% endif %}'
    f"{in_order('<image>')}"
    '{{ "<end_of_utterance>\n" }}{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}'
)


def shared(config: Any, processor: Any) -> tuple[Shared, ...]:
    """What Idefics3Processor must have as the config says it; tiles of other sides make other counts."""
    tower = config.vision_config

    def tokens(side: int) -> int:
        return (side // int(tower.patch_size)) ** 2 // int(config.scale_factor) ** 2

    def holds(processor: Any) -> bool:
        side = processor.image_processor.max_image_size["longest_edge"]
        return bool(processor.image_seq_len == tokens(side))

    values = {"image_seq_len": tokens(int(tower.image_size))}
    return (Shared(values, "scale_factor, vision_config.image_size and patch_size", holds),)


def chat_templates(config: Any) -> tuple[ChatTemplate, ...]:
    """SmolVLM's and Idefics3's differ in the token that they begin with, as chat_template.json has it."""
    smolvlm = "https://huggingface.co/HuggingFaceTB/SmolVLM-Instruct"
    idefics3 = "https://huggingface.co/HuggingFaceM4/Idefics3-8B-Llama3"
    return (
        ChatTemplate(f"<|im_start|>{_TURNS}", smolvlm, ("<|im_start|>", "<end_of_utterance>")),
        ChatTemplate(f"<|begin_of_text|>{_TURNS}", idefics3, ("<|begin_of_text|>", "<end_of_utterance>")),
    )


FAMILY = Family(
    model_types=("idefics3", "smolvlm"),
    title="Idefics3, SmolVLM",
    decoder="text_model",
    shared=shared,
    chat_templates=chat_templates,
)
