"""Tiny seeded vision-language models and hand-made inputs for them, without any processor.

A sample is a tuple of segments: an int is that many text tokens, a pair (h, w) is a picture of h×w cells, for
example `(4, (2, 3), 5)`. Families whose pictures all have one size ignore it; idefics3 and smolvlm, whose
pictures are tiles between text tokens, make h tiles.
"""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch

from routing.checks import copies
from routing.checks.configs import BREAK, END, IMAGE, LAYERS, START, SUPPORTED, VARIANTS, build
from routing.families import describe_config

Picture = tuple[int, int]
Sample = tuple[int | Picture, ...]

FAMILIES = tuple(SUPPORTED)
ALL = (*FAMILIES, "ministral3")
COUSINS = ("vipllava", "glm46v", "qwen3_vl_moe", "wide_window")
FIRST_LAYER = {"qwen3_vl": 2, "qwen3_vl_moe": 2}  # deepstack adds visual features after layers 0 and 1

ONE: Sample = (4, (3, 4), 7)
TEXT_ONLY: Sample = (9,)
RAGGED: tuple[Sample, ...] = ((3, (2, 3), 5), (2, (4, 4), 3, (2, 2), 6), TEXT_ONLY, (5, (3, 2), 8))
_PATCH = {"llava": 20, "internvl": 32, "paligemma": 16}
_TILE = {"idefics3": 24, "smolvlm": 24}
_ANYRES = ("llava_next", "llava_onevision")
_GRID = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "glm4v")
_FIXED_TOKENS = {"llava": 25, "internvl": 16, "paligemma": 16}


def _noise(seed: object, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(repr(seed).encode()))
    return torch.randn(*shape, generator=generator)


def _words(seed: object, count: int) -> list[int]:
    return [int(value) for value in (_noise(seed, count).abs() * 1000 % 170).long() + 10]


@dataclass(frozen=True)
class Tiny:
    """A tiny model with the inputs it understands."""

    name: str
    model: Any
    _tokens: dict[tuple[Sample, int], int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def family(self) -> str:
        """The family whose inputs the model takes."""
        return VARIANTS[self.name][1] if self.name in VARIANTS else self.name

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return LAYERS

    @property
    def first_layer(self) -> int:
        """First decoder layer that a schedule may name."""
        return FIRST_LAYER.get(self.name, 0)

    def ids(self, sample: Sample) -> list[int]:
        """Token ids of one sample, with the right number of image tokens for every picture."""
        parts = [
            _words((sample, place), segment) if isinstance(segment, int) else self._picture_ids(sample, place)
            for place, segment in enumerate(sample)
        ]
        return list(chain.from_iterable(parts))

    def visual(self, sample: Sample) -> int:
        """Number of visual tokens of one sample."""
        return self.ids(sample).count(IMAGE)

    def inputs(self, *samples: Sample) -> dict[str, torch.Tensor]:
        """Keyword arguments of forward and generate for these samples, left-padded, where the model is."""
        rows = [self.ids(sample) for sample in samples]
        width = max(map(len, rows))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        inputs = {"input_ids": ids, "attention_mask": mask, **self.pictures(*samples)}
        if self.family in _GRID:
            inputs["mm_token_type_ids"] = (ids == IMAGE).int()
        if self.family == "paligemma":
            inputs["token_type_ids"] = torch.zeros_like(ids)
        return self.on_device(inputs)

    def on_device(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """These inputs where the model is."""
        return {name: value.to(self.model.device) for name, value in inputs.items()}

    def pictures(self, *samples: Sample) -> dict[str, torch.Tensor]:
        """The picture part of the inputs: pixels and whatever says their size; empty for text alone."""
        seeds = [
            [(sample, place) for place, s in enumerate(sample) if isinstance(s, tuple)] for sample in samples
        ]
        flat = list(chain.from_iterable(seeds))
        if not flat:
            return {}
        if self.family in _TILE:
            return _tiles(seeds)
        if self.family in _PATCH:
            side = _PATCH[self.family]
            return {"pixel_values": torch.stack([_noise(seed, 3, side, side) for seed in flat])}
        if self.family in _ANYRES:
            return _anyres(flat)
        return _grids(flat) if self.family in _GRID else _pixtral(flat)

    def _picture_ids(self, sample: Sample, place: int) -> list[int]:
        high, wide = _segment((sample, place))
        if self.family in _FIXED_TOKENS:
            return [IMAGE] * _FIXED_TOKENS[self.family]
        if self.family in _TILE:
            return [*([START, *([IMAGE] * 9)] * high), END]
        if self.family in _ANYRES:
            return [IMAGE] * self._anyres_tokens((sample, place))
        if self.family == "mistral3":
            return [*([*([IMAGE] * wide), BREAK] * high)[:-1], END]
        return [START, *[IMAGE] * (high * wide), END]

    def _anyres_tokens(self, seed: tuple[Sample, int]) -> int:
        """Visual tokens that the model's own tower and projector make of that picture; asked once."""
        if seed not in self._tokens:
            with torch.no_grad():
                pictures = self.on_device(_anyres([seed]))
                features = self.model.model.get_image_features(**pictures, return_dict=True).pooler_output
            self._tokens[seed] = sum(len(feature) for feature in features)
        return self._tokens[seed]


class Copied(Tiny):
    """A tiny copy of a model from its config alone, whose images are features and no pixels (copies.py).

    An image of h×w cells is h·w placeholders.
    """

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return int(self.model.config.get_text_config().num_hidden_layers)

    @property
    def first_layer(self) -> int:
        """First decoder layer that a schedule may name."""
        return describe_config(self.model.config).first_layer

    def inputs(self, *samples: Sample) -> dict[str, torch.Tensor]:
        """Keyword arguments of forward and generate for these samples, left-padded."""
        return self.on_device(copies.inputs(self.model, [self.ids(sample) for sample in samples]))

    def visual(self, sample: Sample) -> int:
        """Number of visual tokens of one sample."""
        return sum(high * wide for high, wide in (s for s in sample if isinstance(s, tuple)))

    def _picture_ids(self, sample: Sample, place: int) -> list[int]:
        high, wide = _segment((sample, place))
        return [copies.placeholder_ids(self.model.config)[0]] * (high * wide)


def _segment(seed: tuple[Sample, int]) -> Picture:
    picture = seed[0][seed[1]]
    assert not isinstance(picture, int)
    return picture


def _anyres(seeds: list[Any]) -> dict[str, torch.Tensor]:
    """Pictures of 12×12 pixels a tile: the whole, then the tiles of the best-fitting of three layouts."""
    sizes = torch.tensor([[6 * high, 6 * wide] for high, wide in map(_segment, seeds)])
    return {"pixel_values": torch.stack([_noise(seed, 5, 3, 12, 12) for seed in seeds]), "image_sizes": sizes}


def _grids(seeds: list[Any]) -> dict[str, torch.Tensor]:
    """Flattened patches, four to a visual token, with their grid (1, 2h, 2w)."""
    grids = torch.tensor([[1, 2 * high, 2 * wide] for high, wide in map(_segment, seeds)])
    patches = [_noise(seed, int(grid.prod()), 3 * 2 * 4 * 4) for seed, grid in zip(seeds, grids, strict=True)]
    return {"pixel_values": torch.cat(patches), "image_grid_thw": grids}


def _pixtral(seeds: list[Any]) -> dict[str, torch.Tensor]:
    """Pictures of 8×8 pixels a cell, zero-padded to the largest."""
    sizes = torch.tensor([[8 * high, 8 * wide] for high, wide in map(_segment, seeds)])
    pixels = torch.zeros(len(seeds), 3, *sizes.amax(0).tolist())
    for row, (seed, (high, wide)) in enumerate(zip(seeds, sizes.tolist(), strict=True)):
        pixels[row, :, :high, :wide] = _noise(seed, 3, high, wide)
    return {"pixel_values": pixels, "image_sizes": sizes}


def _tiles(seeds: list[Any]) -> dict[str, torch.Tensor]:
    """(B, most tiles, 3, 24, 24), where samples with fewer tiles are filled with empty ones."""
    rows = [
        [_noise((seed, tile), 3, 24, 24) for seed in row for tile in range(_segment(seed)[0])]
        for row in seeds
    ]
    most = max(map(len, rows))
    empty = torch.zeros(3, 24, 24)
    return {"pixel_values": torch.stack([torch.stack(row + [empty] * (most - len(row))) for row in rows])}


@functools.cache
def tiny(name: str, attention: str = "sdpa") -> Tiny:
    """The shared model of that family; tests must leave it as they found it."""
    return Tiny(name, build(name, attention))


def fresh(name: str, attention: str = "sdpa") -> Tiny:
    """A model of its own, for tests that may leave something behind."""
    return Tiny(name, build(name, attention))
