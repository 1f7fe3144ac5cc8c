"""Which models can be routed, which cannot and why, and where a given model keeps what the engine needs.

`FAMILIES` and `REFUSED` are literal tables; adding a family is one file and one line here. Knows no schedules
and no tensors; `locate` only walks attributes of a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from routing.errors import UnsupportedModelError
from routing.families import (
    glm4v,
    idefics3,
    internvl,
    llava,
    llava_next,
    llava_onevision,
    mistral3,
    paligemma,
    qwen2_5_vl,
    qwen2_vl,
    qwen3_vl,
)
from routing.families.family import Family
from routing.host import part

FAMILIES: dict[str, Family] = {
    "llava": llava.FAMILY,
    "vipllava": llava.FAMILY,
    "llava_next": llava_next.FAMILY,
    "llava_onevision": llava_onevision.FAMILY,
    "qwen2_vl": qwen2_vl.FAMILY,
    "qwen2_5_vl": qwen2_5_vl.FAMILY,
    "qwen3_vl": qwen3_vl.FAMILY,
    "qwen3_vl_moe": qwen3_vl.FAMILY,
    "internvl": internvl.FAMILY,
    "idefics3": idefics3.FAMILY,
    "smolvlm": idefics3.FAMILY,
    "mistral3": mistral3.FAMILY,
    "glm4v": glm4v.FAMILY,
    "glm46v": glm4v.FAMILY,
    "paligemma": paligemma.FAMILY,
}

_GEMMA = "its sliding-window layers and shared KV states mix positions that routing would separate"
_LINEAR = "its linear-attention layers carry a recurrent state in which no token can be skipped"
REFUSED: dict[str, str] = {
    "gemma3": _GEMMA,
    "gemma3n": _GEMMA,
    "gemma4": _GEMMA,
    "qwen3_5": _LINEAR,
    "qwen3_5_moe": _LINEAR,
    "minicpmv4_6": _LINEAR,
    "lfm2_vl": "its convolution layers mix neighbouring tokens, so none can be skipped",
    "mllama": "it reads the picture by cross-attention: there are no visual tokens in the sequence",
}

# Language models whose layer is norm, attention (q_proj, k_proj, rotary), norm, MLP on a residual stream.
DECODERS: tuple[str, ...] = (
    "llama",
    "mistral",
    "ministral3",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "gemma",
    "qwen2_vl_text",
    "qwen2_5_vl_text",
    "qwen3_vl_text",
    "qwen3_vl_moe_text",
    "glm4v_text",
)


@dataclass(frozen=True)
class ModelInfo:
    """What a model is, as far as a schedule is concerned."""

    family: str
    layers: int
    first_layer: int
    image_token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Location:
    """Where the parts of one loaded model are: `base` sees input_ids, `layers` are the decoder's.

    heads: what is around the base, outermost first: the model with its language-model head, and its wrappers.
    """

    info: ModelInfo
    family: Family
    heads: tuple[Any, ...]
    base: Any
    layers: tuple[Any, ...]
    attention: str


def describe_config(config: Any) -> ModelInfo:
    """Family, depth, first routable layer and visual token ids from a model's config.

    Raises UnsupportedModelError naming what was given and what works.
    """
    family = _family_of(config)
    text = config.get_text_config()
    if text.model_type not in DECODERS:
        raise UnsupportedModelError(
            f"the language model '{text.model_type}' inside {config.model_type} cannot be routed; "
            f"these can: {', '.join(DECODERS)}"
        )
    return ModelInfo(
        config.model_type,
        int(text.num_hidden_layers),
        family.first_layer(config),
        family.visual_tokens(config),
    )


def locate(model: Any) -> Location:
    """The parts of a loaded Hugging Face model, with or without its language-model head.

    It may be wrapped by others (PEFT, torch.compile, DataParallel): the base is the first module inside that
    holds a decoder of the family.
    """
    modules = model.modules() if callable(getattr(model, "modules", None)) else ()
    configs = (getattr(module, "config", None) for module in modules)
    config = next((config for config in configs if hasattr(config, "model_type")), None)
    if config is None:
        raise UnsupportedModelError(
            f"expected a loaded Hugging Face vision-language model, got {type(model).__name__}"
        )
    info = describe_config(config)
    family = FAMILIES[info.family]
    path = next((path for path, module in model.named_modules() if _holds(module, family)), None)
    if path is None:
        raise UnsupportedModelError(f"{type(model).__name__} has no {family.decoder}.layers to route")
    names = path.split(".") if path else []
    heads = tuple(model.get_submodule(".".join(names[:depth])) for depth in range(len(names)))
    base = model.get_submodule(path)
    decoder = part(base, family.decoder)
    maps = (getattr(module, "hf_device_map", None) or {} for module in (*heads, base))
    devices = {str(device) for placed in maps for device in placed.values()}
    if len(devices) > 1:
        raise UnsupportedModelError(
            f"the model is spread over {', '.join(sorted(devices))}; load it on one device to route it"
        )
    attention = str(part(decoder, "config._attn_implementation"))
    if attention == "flex_attention":
        raise UnsupportedModelError("flex_attention cannot be routed; load the model with sdpa or eager")
    if attention.startswith("flash") and decoder.config.model_type == "ministral3":
        raise UnsupportedModelError(
            f"Ministral 3 under {attention} takes gaps in positions for packed sequences; use sdpa or eager"
        )
    return Location(info, family, heads, base, tuple(decoder.layers[: info.layers]), attention)


def _holds(module: Any, family: Family) -> bool:
    """Whether the family's decoder is a direct part of `module`."""
    return hasattr(dict(module.named_children()).get(family.decoder), "layers")


def _family_of(config: Any) -> Family:
    kind = getattr(config, "model_type", None) or type(config).__name__
    if kind in FAMILIES:
        return FAMILIES[kind]
    supported = ", ".join(FAMILIES)
    if kind in REFUSED:
        raise UnsupportedModelError(f"{kind} cannot be routed: {REFUSED[kind]}; these can: {supported}")
    raise UnsupportedModelError(f"{kind} is not a model that can be routed; these can: {supported}")
