"""Pictures on their way into tiny models through the library's own image processors, for every family.

A tiny model's vision tower is made blind to everything but a patch's own pixels (its attention writes
nothing), so that what changes in the features of a token is what changed in the pixels that it stands for.
The projector, the merging and shuffling of patches and the order of tokens are the library's own.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import CONFIG_MAPPING

from reroute_cli.studies.trace import ProcessedImage, grids_of
from routing.checks.configs import SUPPORTED, VARIANTS, from_configuration
from routing.grids import Grid

Size = tuple[int, int]
_ATTENTION_WRITES = ("out_proj", "attn.proj", "o_proj", "attention.projection_layer")
_PINPOINTS = [[12, 24], [24, 12], [24, 24]]
_RAGGED = [[14, 28], [28, 14], [28, 28]]  # tiles of 14 pixels in patches of 4: two pixels are seen by none
_CHANGES: dict[str, dict[str, Any]] = {
    "paligemma ragged": {"vision_config": {"image_size": 18}},
    "llava_next ragged": {"vision_config": {"image_size": 14}, "image_grid_pinpoints": _RAGGED},
    "llava_onevision": {"vision_aspect_ratio": "anyres_max_9"},
    "llava_onevision shrunk": {"vision_aspect_ratio": "anyres_max_2"},
    "smolvlm ragged": {"vision_config": {"image_size": 26}},
}


def _pil(name: str, **numbers: Any) -> Any:
    return getattr(transformers, f"{name}ImageProcessorPil")(**numbers)


def _qwen(name: str) -> Any:
    return _pil(
        name, patch_size=4, merge_size=2, size={"shortest_edge": 8 * 8 * 6, "longest_edge": 8 * 8 * 60}
    )


_ANYRES = {"image_grid_pinpoints": _PINPOINTS, "size": {"height": 12, "width": 12}}
PROCESSORS: dict[str, Callable[[], Any]] = {
    "llava": lambda: _pil("CLIP", size={"shortest_edge": 20}, crop_size={"height": 20, "width": 20}),
    "llava padded": lambda: _pil(
        "Llava", do_pad=True, size={"shortest_edge": 20}, crop_size={"height": 20, "width": 20}
    ),
    "vipllava": lambda: _pil("CLIP", size={"shortest_edge": 20}, crop_size={"height": 20, "width": 20}),
    "llava_next": lambda: _pil("LlavaNext", crop_size={"height": 12, "width": 12}, **_ANYRES),
    "llava_next ragged": lambda: _pil(
        "LlavaNext",
        crop_size={"height": 14, "width": 14},
        size={"height": 14, "width": 14},
        image_grid_pinpoints=_RAGGED,
    ),
    "llava_onevision": lambda: _pil("LlavaOnevision", **_ANYRES),
    "llava_onevision shrunk": lambda: _pil("LlavaOnevision", **_ANYRES),
    "qwen2_vl": lambda: _qwen("Qwen2VL"),
    "qwen2_5_vl": lambda: _qwen("Qwen2VL"),
    "qwen3_vl": lambda: _qwen("Qwen2VL"),
    "qwen3_vl_moe": lambda: _qwen("Qwen2VL"),
    "glm4v": lambda: _pil(
        "Glm4v", patch_size=4, merge_size=2, size={"shortest_edge": 16 * 64, "longest_edge": 128 * 64}
    ),
    "glm46v": lambda: _pil(
        "Glm46V", patch_size=4, merge_size=2, size={"shortest_edge": 16 * 64, "longest_edge": 128 * 64}
    ),
    "internvl": lambda: _pil(
        "GotOcr2", size={"height": 32, "width": 32}, crop_to_patches=True, min_patches=1, max_patches=6
    ),
    "idefics3": lambda: _pil("Idefics3", size={"longest_edge": 72}, max_image_size={"longest_edge": 24}),
    "smolvlm": lambda: _pil("SmolVLM", size={"longest_edge": 60}, max_image_size={"longest_edge": 24}),
    "smolvlm ragged": lambda: _pil(
        "SmolVLM", size={"longest_edge": 104}, max_image_size={"longest_edge": 26}
    ),
    "mistral3": lambda: _pil("Pixtral", patch_size={"height": 8, "width": 8}, size={"longest_edge": 64}),
    "paligemma": lambda: _pil("Siglip", size={"height": 16, "width": 16}),
    "paligemma ragged": lambda: _pil("Siglip", size={"height": 18, "width": 18}),
}
FAMILIES = tuple(PROCESSORS)


@functools.cache
def blind_model(name: str) -> torch.nn.Module:
    """A tiny model whose vision tower mixes nothing: every patch is seen alone."""
    family, changes = name.split()[0], _CHANGES.get(name, {})
    model_type, _, make = VARIANTS.get(family) or (family, family, SUPPORTED[family])
    numbers = make()
    numbers |= changes | {"vision_config": numbers["vision_config"] | changes.get("vision_config", {})}
    model = from_configuration(CONFIG_MAPPING[model_type](**numbers), "sdpa")
    inner = model.model
    tower = next(
        part
        for part in ("visual", "vision_tower", "vision_model")
        if isinstance(getattr(inner, part, None), torch.nn.Module)
    )
    silenced = 0
    with torch.no_grad():
        for parameter, weight in getattr(inner, tower).named_parameters():
            if parameter.removesuffix(".weight").removesuffix(".bias").endswith(_ATTENTION_WRITES):
                weight.zero_()
                silenced += 1
    assert silenced >= 2, tower
    return model


@dataclass(frozen=True)
class Eye:
    """One family's eyes: its image processor and a tiny model's tower and projector."""

    name: str

    @property
    def family(self) -> str:
        """The family as configs call it."""
        return self.name.split()[0]

    @property
    def model(self) -> torch.nn.Module:
        """The tiny model."""
        return blind_model(self.name)

    def inputs(self, pixels: np.ndarray) -> dict[str, Any]:
        """What the image processor makes of (H, W, 3) bytes."""
        made = dict(_processor(self.name)([Image.fromarray(pixels)], return_tensors="pt"))
        for extra in ("num_patches", "batch_num_images", "pixel_attention_mask"):
            made.pop(extra, None)
        return made

    def features(self, pixels: np.ndarray) -> torch.Tensor:
        """(V, d) features of the visual tokens in prompt order."""
        inputs = self.inputs(pixels)
        with torch.no_grad():
            found = self.model.model.get_image_features(**inputs, return_dict=True).pooler_output
        return torch.cat([part.reshape(-1, part.shape[-1]) for part in found])

    def grids(self, pixels: np.ndarray, visual: int) -> tuple[Grid, ...]:
        """The geometry under test."""
        return grids_of(self.sight(pixels, visual))

    def sight(self, pixels: np.ndarray, visual: int) -> ProcessedImage:
        """What the geometry gets to see."""
        height, width, _ = pixels.shape
        return ProcessedImage(
            self.family,
            self.model.config,
            _processor(self.name),
            self.inputs(pixels),
            (width, height),
            visual,
        )


@functools.cache
def _processor(name: str) -> Any:
    return PROCESSORS[name]()
