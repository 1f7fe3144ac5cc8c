"""Which models can be routed, which cannot and why, and where a given model keeps what the engine needs.

Adding a family is one file beside these and one line in `FAMILIES`. Knows no schedules and no tensors;
`locate` only walks attributes of a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    structure,
    vipllava,
)
from routing.families.decoders import DECODERS
from routing.families.family import Family, Missing
from routing.host import part
from routing.kinds import LayerKind, kinds_of
from routing.kinds.shared import producers

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

REFUSED: dict[str, str] = {
    "mllama": "it reads the image by cross-attention: there are no visual tokens in the sequence",
}


@dataclass(frozen=True)
class ModelInfo:
    """What a model is, as far as a schedule is concerned.

    family: model_type. kinds: of each decoder layer. first_layer, last_layer: the first and the last that may
    decide: vision features have entered by then, and later layers use the keys of no earlier one.
    producers: layers without keys of their own -> the layers whose keys they use. filed: the family has a
    file and its decoder is a plain one, which is what a release's tests prove; all else is checked first.
    """

    family: str
    layers: int
    first_layer: int
    image_token_ids: tuple[int, ...]
    kinds: tuple[LayerKind, ...] = ()
    producers: Mapping[int, int] = field(default_factory=dict)
    filed: bool = False

    @property
    def last_layer(self) -> int:
        """The last layer that may decide, and is ranked by itself or a layer after it."""
        last = min(self.producers.values(), default=self.layers - 1)
        return next(layer for layer in range(last, -1, -1) if self.ranking(layer) is not None)

    def ranking(self, layer: int) -> int | None:
        """The layer whose attention ranks at the input of `layer`; None where there is none.

        That is `layer` itself, or where it has no attention of its own, the nearest one after it that sees
        the whole prompt.
        """
        if self.kinds[layer].ranks:
            return layer
        whole = (index for index in range(layer, self.layers) if self.kinds[index].sees_all)
        return next(whole, None)


@dataclass(frozen=True)
class Location:
    """Where the parts of one loaded model are: `base` sees input_ids, `decoder` holds `layers`.

    config: the model's. heads: what is around the base, outermost first: the model with its language-model
    head, and its wrappers.
    """

    info: ModelInfo
    config: Any
    family: Family
    heads: tuple[Any, ...]
    base: Any
    decoder: Any
    layers: tuple[Any, ...]
    attention: str


def no_vision_stage(family: str) -> str | None:
    """Why nothing can be chosen at a family's vision tower; None where it can."""
    if not isinstance(missing := family_of(family).vision_stage, Missing):
        return None
    works = [kind for kind, known in FAMILIES.items() if not isinstance(known.vision_stage, Missing)]
    with_these = f"tokens are chosen at the vision towers of {', '.join(works)}"
    return f"{with_these}; {family} is not among them: {missing.because}"


def family_of(kind: str) -> Family:
    """The facts of a model type: those of its file, or none but those that every model tells."""
    return FAMILIES.get(kind) or structure.without_a_file(kind)


def describe_config(config: Any) -> ModelInfo:
    """Family, depth, kinds of layers and visual token ids from a model's config.

    Raises UnsupportedModelError naming what was given and why it cannot be routed.
    """
    kind = getattr(config, "model_type", None) or type(config).__name__
    if kind in REFUSED:
        raise UnsupportedModelError(f"{kind} cannot be routed: {REFUSED[kind]}")
    if kind not in FAMILIES and (why := structure.refusal(config)):
        raise UnsupportedModelError(f"{kind} cannot be routed: {why}")
    text, family = config.get_text_config(), family_of(kind)
    return ModelInfo(
        kind,
        int(text.num_hidden_layers),
        family.first_layer(config),
        family.visual_tokens(config),
        kinds_of(text, kind),
        producers(text),
        kind in FAMILIES and text.model_type in DECODERS,
    )


def locate(model: Any) -> Location:
    """The parts of a loaded Hugging Face model, with or without its language-model head.

    It may be wrapped by others (PEFT, torch.compile, DataParallel). The decoder is the module inside that
    holds the layers of the language model, the base the nearest module around it that is called with token
    ids and images.
    """
    modules = model.modules() if callable(getattr(model, "modules", None)) else ()
    configs = (getattr(module, "config", None) for module in modules)
    config = next((config for config in configs if hasattr(config, "model_type")), None)
    if config is None:
        raise UnsupportedModelError(
            f"expected a loaded Hugging Face vision-language model, got {type(model).__name__}"
        )
    info = describe_config(config)
    family = family_of(info.family)
    path = structure.decoder(model, config.get_text_config(), family.decoder)
    if path is None:
        raise UnsupportedModelError(f"{type(model).__name__} has no decoder layers to route")
    decoder = model.get_submodule(path)
    if not info.filed and structure.adds_features_unsaid(decoder, info.first_layer):
        raise UnsupportedModelError(
            f"{info.family} cannot be routed: its decoder adds vision features after the first layer, and "
            "its config does not say where"
        )
    around = structure.around(model, path)
    base = structure.base(around)
    heads, base = around[:base], around[base]
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
    return Location(
        info, config, family, heads, base, decoder, tuple(decoder.layers[: info.layers]), attention
    )
