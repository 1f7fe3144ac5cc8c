"""What one sample of a batch cost, by arithmetic: a batch can't be taken apart by measuring it.

FLOPs are those of the sample alone, without the padding of its batch; KV bytes are those of the tokens that
it stores itself. Knows shapes and caches; runs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reroute_cli.console.errors import CliError
from reroute_cli.measure.memory import filled_layers, has_keys, states_of, window_of
from reroute_cli.models.image_tokens import Size, count_image_tokens
from reroute_cli.records.answer import FlopsPart, KvPart
from routing.cost import PromptSize, cost
from routing.errors import RoutingError
from routing.model_shape import ModelShape
from routing.schedule import Schedule

if TYPE_CHECKING:
    from reroute_cli.models.load import Loaded
    from routing.grids import PatchGrid

_ESTIMATED: dict[str, Any] = {"source": "estimated", "dense_source": "estimated"}
_NAMES = tuple(name for name in FlopsPart.model_fields if name.endswith("flops"))
_NO_GRIDS = "the image's patch grid can't be told from its size"


@dataclass(frozen=True)
class Sample:
    """One prompt, in numbers. sizes: width and height of each image in pixels."""

    prompt: PromptSize
    sizes: Sequence[Size]


@dataclass(frozen=True)
class CostModel:
    """The arithmetic of one model. shape: None where `reason` says why there is none."""

    shape: ModelShape | None
    reason: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    image: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, loaded: Loaded) -> CostModel:
        """The arithmetic for a loaded model."""
        config = loaded.model.config.to_dict()
        try:
            shape = ModelShape.from_config(config)
        except RoutingError as error:
            return cls(None, str(error))
        return cls(shape, config=config, image=dict(loaded.processor.image_processor.to_dict()))

    def flops(self, schedule: Schedule, sample: Sample, new: int, original: Sample) -> FlopsPart:
        """FLOPs of one sample and of the same sample dense; null with a reason where not modelled.

        new: tokens of the answer. original: what is dense: the same sample, before its images were made
        smaller where they were.
        """
        if self.shape is None:
            nothing: dict[str, Any] = dict.fromkeys(_NAMES)
            reasons = dict.fromkeys(_NAMES, self.reason)
            return FlopsPart(**nothing, **_ESTIMATED, reasons=reasons)
        grids = self._grids(sample)
        routed = dense = cost(self.shape, schedule, [sample.prompt], new_tokens=new, grids=grids)
        if schedule.entries or sample != original:
            before = grids if sample == original else self._grids(original)
            dense = cost(self.shape, Schedule(), [original.prompt], new_tokens=new, grids=before)
        scoring = None if routed.anchor_flops is None else routed.scoring_flops + routed.anchor_flops
        values: dict[str, Any] = {
            "vision_flops": routed.vision_flops,
            "prefill_flops": None if scoring is None else routed.prefill_flops + scoring,
            "scoring_flops": scoring,
            "decode_flops": routed.decode_flops,
            "dense_vision_flops": dense.vision_flops,
            "dense_prefill_flops": dense.prefill_flops,
        }
        why = self.shape.tower_reason or _NO_GRIDS
        unknown = {name: why for name, value in values.items() if value is None}
        return FlopsPart(**values, **_ESTIMATED, reasons=unknown)

    def _grids(self, sample: Sample) -> tuple[PatchGrid, ...] | None:
        """The grids of a sample's images; None where their sizes do not tell, or tell another count."""
        assert self.shape is not None
        with suppress(CliError):
            made = count_image_tokens(
                self.shape.family, self.config, self.image, self.shape.tower, sample.sizes
            )
            return made.grids if made.visual == sample.prompt.visual else None
        return None


@dataclass(frozen=True)
class KvLayer:
    """One layer of a cache: bytes of one stored token, most tokens it keeps (None: all), bytes of states."""

    token_bytes: int
    most: int | None
    state_bytes: int = 0


def kv_layers(cache: Any) -> tuple[KvLayer, ...]:
    """The layers of a transformers cache that hold something."""
    found = []
    for layer in filled_layers(cache):
        states = sum(state[:1].numel() * state.element_size() for state in states_of(layer))
        if not has_keys(layer):
            found.append(KvLayer(0, 0, states))
            continue
        window = window_of(layer)
        sizes = (t.shape[1] * t.shape[3] * t.element_size() for t in (layer.keys, layer.values))
        found.append(KvLayer(sum(sizes), None if window is None else window - 1, states))
    return tuple(found)


def kv_share(layers: Sequence[KvLayer], tokens: Sequence[int], logical: int) -> KvPart:
    """What a sample's own tokens take. tokens: it stores in each layer; logical: they stand for."""
    stored = [_held(layer, count) for layer, count in zip(layers, tokens, strict=True)]
    return KvPart(
        kv_end_bytes=sum(_bytes(layer, count) for layer, count in zip(layers, stored, strict=True)),
        source="estimated",
        dense_kv_end_bytes=sum(_bytes(layer, _held(layer, logical)) for layer in layers),
        dense_source="estimated",
        logical_tokens=logical,
        per_layer_tokens=stored,
    )


def _bytes(layer: KvLayer, count: int) -> int:
    return layer.token_bytes * count + layer.state_bytes


def _held(layer: KvLayer, count: int) -> int:
    return count if layer.most is None else min(count, layer.most)
