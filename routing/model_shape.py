"""The numbers of a vision-language model that its cost follows from, read from a Hugging Face config.

Takes the plain dict of a config.json (values left out there have the library's own defaults) or of
`config.to_dict()`. Knows no weights and no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from routing.errors import UnsupportedModelError
from routing.towers import TOWERS, Config
from routing.vision_cost import Tower

_NAMES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
_QWEN2_VL = (8192, 29568, 80, 64, 152064)
_DEFAULTS: dict[str, tuple[int, ...]] = {  # by model_type of the decoder, in the order of _NAMES
    "llama": (4096, 11008, 32, 32, 32000),
    "mistral": (4096, 14336, 32, 32, 32000),
    "ministral3": (4096, 14336, 34, 32, 131072),
    "qwen2": (4096, 22016, 32, 32, 151936),
    "qwen3": (4096, 22016, 32, 32, 151936),
    "gemma": (3072, 24576, 28, 16, 256000),
    "qwen2_vl_text": _QWEN2_VL,
    "qwen2_5_vl_text": _QWEN2_VL,
    "qwen3_vl_text": (4096, 22016, 32, 32, 151936),
    "glm4v_text": (4096, 13696, 40, 32, 151552),
}
_KV_HEADS = {
    "mistral": 8,
    "ministral3": 8,
    "gemma": 16,
    "qwen2": 32,
    "qwen3": 32,
    "qwen2_vl_text": 8,
    "qwen2_5_vl_text": 8,
    "qwen3_vl_text": 32,
    "glm4v_text": 2,
}
_HEAD_DIM = {"gemma": 256, "qwen3": 128, "qwen3_vl_text": 128, "ministral3": 128}
_TEXT_OF = {  # decoder of a family whose config does not name it
    "qwen2_vl": "qwen2_vl_text",
    "qwen2_5_vl": "qwen2_5_vl_text",
    "qwen3_vl": "qwen3_vl_text",
    "glm4v": "glm4v_text",
    "glm46v": "glm4v_text",
    "llava_onevision": "qwen2",
    "internvl": "qwen2",
    "mistral3": "mistral",
    "paligemma": "gemma",
}
_EXPERTS = {"num_experts", "num_local_experts"}  # transformers 5.24 writes the second for the first


@dataclass(frozen=True)
class ModelShape:
    """A model as far as its cost is concerned: a decoder of gated MLPs, and a vision tower where it is
    modelled.

    family: model_type. first_layer: first decoder layer that may be reduced (deepstack). tower is None, with
    `tower_reason` saying why, where the vision cost cannot be given exactly.
    """

    family: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    first_layer: int = 0
    tower: Tower | None = None
    tower_reason: str | None = None

    @classmethod
    def from_config(cls, config: Config) -> ModelShape:
        """The shape of a config dict; UnsupportedModelError where a number is missing or not modelled."""
        family = str(config.get("model_type", ""))
        text = config.get("text_config") or config
        named = str(text.get("model_type") or "")
        if _EXPERTS & set(text) or (named or family).endswith(("_moe", "_moe_text")):
            raise UnsupportedModelError(f"{family}: the cost of a mixture of experts is not modelled")
        kind = named if named in _DEFAULTS else _TEXT_OF.get(family, named or "llama")
        numbers = dict(zip(_NAMES, (_number(text, name, kind) for name in _NAMES), strict=True))
        heads, hidden = numbers["num_attention_heads"], numbers["hidden_size"]
        tower, reason = _tower(family, config, hidden)
        return cls(
            family=family,
            layers=numbers["num_hidden_layers"],
            hidden=hidden,
            intermediate=numbers["intermediate_size"],
            heads=heads,
            kv_heads=_given(text, "num_key_value_heads", _KV_HEADS.get(kind, heads)),
            head_dim=_given(text, "head_dim", _HEAD_DIM.get(kind, hidden // heads)),
            vocab=numbers["vocab_size"],
            first_layer=_deepstack(family, config),
            tower=tower,
            tower_reason=reason,
        )


def _given(section: Config, name: str, default: int) -> int:
    """A positive whole number of a config, where null means not given."""
    value = section.get(name)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UnsupportedModelError(f"config: {name} must be a positive whole number, got {value!r}")
    return value


def _number(text: Config, name: str, kind: str) -> int:
    if text.get(name) is None and kind not in _DEFAULTS:
        raise UnsupportedModelError(f"config: {name} is missing, and {kind} decoders have no known default")
    return _given(text, name, _DEFAULTS.get(kind, (1,) * len(_NAMES))[_NAMES.index(name)])


def _deepstack(family: str, config: Config) -> int:
    if not family.startswith("qwen3_vl"):
        return 0
    return len(config.get("vision_config", {}).get("deepstack_visual_indexes", (8, 16, 24)))


def _tower(family: str, config: Config, hidden: int) -> tuple[Tower | None, str | None]:
    if family not in TOWERS:
        return None, f"the vision tower of {family or 'this model'} is not modelled"
    if not isinstance(config.get("vision_config"), Mapping):
        return None, "the config has no vision_config"
    try:
        return TOWERS[family](config, hidden), None
    except NotImplementedError as reason:
        return None, str(reason)
