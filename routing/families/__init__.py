"""Which models can be routed, which cannot and why, and where a given model keeps what the engine needs.

Adding a family is one file beside these and one line in `FAMILIES`. Knows no schedules and no tensors;
`locate` only walks attributes of a model.
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
    vipllava,
)
from routing.families.decoders import DECODERS
from routing.families.family import Family, Missing
from routing.host import part

FAMILIES: dict[str, Family] = {
    kind: module.FAMILY
    for module in (
        llava,
        vipllava,
        llava_next,
        llava_onevision,
        qwen2_vl,
        qwen2_5_vl,
        qwen3_vl,
        internvl,
        idefics3,
        mistral3,
        glm4v,
        paligemma,
    )
    for kind in module.FAMILY.model_types
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
    "mllama": "it reads the image by cross-attention: there are no visual tokens in the sequence",
}


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


def no_vision_stage(family: str) -> str | None:
    """Why a family's vision tower can't be reduced (Nuwa's first stage); None where it can."""
    if not isinstance(missing := FAMILIES[family].vision_stage, Missing):
        return None
    works = [kind for kind, known in FAMILIES.items() if not isinstance(known.vision_stage, Missing)]
    with_these = f"the vision stage (Nuwa) works with {', '.join(works)}"
    return f"{with_these}; {family} is not among them: {missing.because}"


def describe_config(config: Any) -> ModelInfo:
    """Family, depth, first routable layer and visual token ids from a model's config.

    Raises UnsupportedModelError naming what was given and what works.
    """
    kind = getattr(config, "model_type", None) or type(config).__name__
    if kind not in FAMILIES:
        why = f"cannot be routed: {REFUSED[kind]}" if kind in REFUSED else "is not a model that can be routed"
        raise UnsupportedModelError(f"{kind} {why}; these can: {', '.join(FAMILIES)}")
    text = config.get_text_config()
    if text.model_type not in DECODERS:
        raise UnsupportedModelError(
            f"the language model '{text.model_type}' inside {kind} cannot be routed; "
            f"these can: {', '.join(DECODERS)}"
        )
    return ModelInfo(
        kind,
        int(text.num_hidden_layers),
        FAMILIES[kind].first_layer(config),
        FAMILIES[kind].visual_tokens(config),
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
    path = next(  # of the module whose direct part the decoder is
        (
            path
            for path, module in model.named_modules()
            if hasattr(dict(module.named_children()).get(family.decoder), "layers")
        ),
        None,
    )
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
