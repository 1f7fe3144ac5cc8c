"""The numbers of a vision-language model that its cost follows from, read from a Hugging Face config.

Takes the plain dict of a config.json (values left out there have the library's own defaults) or of
`config.to_dict()`. Knows no weights and no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from routing.errors import UnsupportedModelError
from routing.families import FAMILIES
from routing.families.decoders import DECODERS, DEFAULT
from routing.families.family import Family
from routing.towers import Config, Tower

_NAMES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
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
        known = FAMILIES.get(family)
        kind = named if named in DECODERS else (known.text if known else None) or named or DEFAULT
        numbers = {name: _number(text, name, kind) for name in _NAMES}
        heads, hidden = numbers["num_attention_heads"], numbers["hidden_size"]
        tower, reason = _tower(known, family, config, hidden)
        return cls(
            family=family,
            layers=numbers["num_hidden_layers"],
            hidden=hidden,
            intermediate=numbers["intermediate_size"],
            heads=heads,
            kv_heads=_number(text, "num_key_value_heads", kind, heads),
            head_dim=_number(text, "head_dim", kind, hidden // heads),
            vocab=numbers["vocab_size"],
            first_layer=known.first_layer(config) if known else 0,
            tower=tower,
            tower_reason=reason,
        )


def _number(text: Config, name: str, kind: str, derived: int | None = None) -> int:
    """A positive whole number of a decoder's config; where it is null or left out, the library's default.

    derived: what that is where the library has none of its own.
    """
    value = text.get(name)
    if value is None:
        value = getattr(DECODERS.get(kind), name, None) or derived
    if value is None:
        raise UnsupportedModelError(f"config: {name} is missing, and {kind} decoders have no known default")
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UnsupportedModelError(f"config: {name} must be a positive whole number, got {value!r}")
    return value


def _tower(known: Family | None, family: str, config: Config, hidden: int) -> tuple[Tower | None, str | None]:
    if known is None:
        return None, f"the vision tower of {family or 'this model'} is not modelled"
    if not isinstance(config.get("vision_config"), Mapping):
        return None, "the config has no vision_config"
    try:
        return known.tower(config, hidden), None
    except NotImplementedError as reason:
        return None, str(reason)
