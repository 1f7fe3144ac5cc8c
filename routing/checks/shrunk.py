"""A model's own decoder, shrunk to six layers of width 64: its kind, norms, rotary embedding, layer pattern.

What a checkpoint's config says of its language model replaces the template's of its family; sizes are the
template's. Knows configs only.
"""

from __future__ import annotations

from typing import Any

from routing.checks.configs import LAYERS, TEMPLATES, text_part

HEADS, HEAD_DIM = 4, 16
WINDOW = 64  # wider than every prompt of the checks: a routed cache cannot outgrow a window
TRAINED = 16  # positions before a rotary embedding is stretched; fewer than the checks' prompts have

_LEFT_OUT = {  # what says nothing of how layers compute, or names files
    "_name_or_path",
    "architectures",
    "auto_map",
    "dtype",
    "torch_dtype",
    "quantization_config",
    "transformers_version",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "vocab_size",
    "max_position_embeddings",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "tie_word_embeddings",
}
_BOUNDED = {  # at most so large in a shrunken model
    "head_dim": HEAD_DIM,
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "max_window_layers": LAYERS // 2,
}


def shrunk(config: Any) -> tuple[str, dict[str, Any]]:
    """Model type and configuration of a tiny copy of `config`, a vision-language model's own."""
    model_type, make = TEMPLATES[config.model_type]
    template = make()
    own = config.get_text_config()
    return model_type, template | {
        "text_config": _text(template["text_config"], own.to_dict(), own.model_type)
    }


def _text(template: dict[str, Any], own: dict[str, Any], kind: str) -> dict[str, Any]:
    text = {name: value for name, value in own.items() if name not in _LEFT_OUT and value is not None}
    for name, most in _BOUNDED.items():
        if isinstance(text.get(name), int):
            text[name] = min(text[name], most)
    if text.get("sliding_window"):
        text["sliding_window"] = WINDOW
    if "layer_types" in text:
        kinds = text["layer_types"] * LAYERS  # the first and the last, which may be of another kind
        text["layer_types"] = kinds[: LAYERS // 2] + kinds[-(LAYERS // 2) :]
    groups = max(
        1, own["num_attention_heads"] // (own.get("num_key_value_heads") or own["num_attention_heads"])
    )
    text["num_key_value_heads"] = max(1, HEADS // groups)
    if text.get("rope_parameters"):
        part = text["rope_parameters"].get("partial_rotary_factor") or text.get("partial_rotary_factor")
        pairs = int(HEAD_DIM * (part or 1.0)) // 2
        text["rope_parameters"] = _rope(template.get("rope_parameters") or {}, text["rope_parameters"], pairs)
    sizes = text_part(kind)
    return {**text, **{name: sizes[name] for name in sizes if name != "num_key_value_heads"}}


def _rope(template: dict[str, Any], own: dict[str, Any], pairs: int) -> dict[str, Any]:
    """The rotary embedding for heads of so many pairs: sections and tables are as long as that.

    A section that the config leaves to its model is the template's. A long RoPE stays within what it was
    trained with: it turns by the longest sample of a batch, so no batch of it equals its samples beyond.
    """
    rope = {name: value[:pairs] if isinstance(value, list) else value for name, value in own.items()}
    if section := own.get("mrope_section") or template.get("mrope_section"):
        rope["mrope_section"] = _scaled(section, pairs)
    if "original_max_position_embeddings" in rope:
        rope["original_max_position_embeddings"] = WINDOW if own.get("rope_type") == "longrope" else TRAINED
    return rope


def _scaled(section: list[int], pairs: int) -> list[int]:
    """The shares of time, height and width in so many pairs; what does not divide is the width's."""
    time, height, _ = (part * pairs // sum(section) for part in section)
    return [time, height, pairs - time - height]
