"""The numbers of a vision-language model that its cost follows from, read from a Hugging Face config.

Takes the plain dict of a config.json (values left out there have the library's own defaults) or of
`config.to_dict()`. Knows no weights and no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from routing.errors import UnsupportedModelError
from routing.families import FAMILIES, family_of
from routing.families.decoders import DECODERS, DEFAULT, SHAPES
from routing.families.family import Family
from routing.families.layer_configs import Numbers
from routing.families.layer_shapes import Attention, LatentAttention, LayerShape
from routing.towers import Config, Tower


@dataclass(frozen=True)
class ModelShape:
    """A model as far as its cost is concerned: decoder layers, and a vision tower where it is modelled.

    family: model_type. layers: one shape a decoder layer. hidden: width of the residual stream. inputs:
    numbers that every position is projected to before the first layer. first_layer: first decoder layer that
    may be reduced (deepstack). tower is None, with `tower_reason` saying why, where the vision cost cannot be
    given exactly.
    """

    family: str
    layers: tuple[LayerShape, ...]
    hidden: int
    vocab: int
    inputs: int = 0
    first_layer: int = 0
    tower: Tower | None = None
    tower_reason: str | None = None

    @classmethod
    def from_config(cls, config: Config) -> ModelShape:
        """The shape of a config dict; UnsupportedModelError where a number is missing or not modelled."""
        family = str(config.get("model_type", ""))
        text = config.get("text_config") or config
        known = FAMILIES.get(family)
        kind = _decoder_of(str(text.get("model_type") or ""), family, known.text if known else None)
        decoder = SHAPES[kind]
        numbers = Numbers(text, kind, decoder.defaults)
        tower, reason = _tower(known, family, config, numbers.hidden)
        return cls(
            family=family,
            layers=tuple(_as_asked(layer, kind) for layer in decoder.layers(numbers)),
            hidden=numbers.hidden,
            vocab=numbers.number("vocab_size"),
            inputs=0 if decoder.inputs is None else decoder.inputs(numbers),
            first_layer=family_of(family).first_layer(config),
            tower=tower,
            tower_reason=reason,
        )

    @property
    def last_layer(self) -> int:
        """Last decoder layer that may decide, as `routing.ModelInfo.last_layer`."""
        sources = [layer.source for layer in self.layers if layer.source is not None]
        whole = [index for index, layer in enumerate(self.layers) if layer.attention and layer.window is None]
        for index in range(min(sources, default=len(self.layers) - 1), -1, -1):
            if self.layers[index].attention or any(later > index for later in whole):
                return index
        return 0

    def ranking(self, layer: int) -> tuple[int, Attention | LatentAttention]:
        """What ranks for a decision at `layer`, and the layer of that, as `routing.ModelInfo.ranking`.

        Raises UnsupportedModelError where there is none.
        """
        for index in range(layer, len(self.layers)):
            found = self.layers[index]
            if found.attention is not None and (index == layer or found.window is None):
                return index, found.attention
        raise UnsupportedModelError(f"{self.family}: no attention at or after layer {layer} can rank tokens")


def _as_asked(layer: LayerShape, kind: str) -> LayerShape:
    """The layer of a decoder as the engine ranks with it: only plain ones are handed the ranking's keys."""
    if kind in DECODERS or not isinstance(layer.mixer, Attention):
        return layer
    return replace(layer, mixer=replace(layer.mixer, hands_over=False))


def _decoder_of(named: str, family: str, usual: str | None) -> str:
    """The decoder that a config names, or that its family has where it names none."""
    if found := next((kind for kind in (named, f"{family}_text", usual) if kind in SHAPES), None):
        if named in (found, family, ""):
            return found
    elif named in ("", family) and family in FAMILIES:
        return DEFAULT
    raise UnsupportedModelError(f"{named or family}: the cost of its layers is not modelled")


def _tower(known: Family | None, family: str, config: Config, hidden: int) -> tuple[Tower | None, str | None]:
    if known is None:
        return None, f"the vision tower of {family or 'this model'} is not modelled"
    if not isinstance(config.get("vision_config"), Mapping):
        return None, "the config has no vision_config"
    try:
        return known.tower(config, hidden), None
    except NotImplementedError as reason:
        return None, str(reason)
