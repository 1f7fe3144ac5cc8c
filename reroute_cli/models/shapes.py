"""A model's shape from its config alone, for arithmetic: no weights, no torch.

Knows `pocket`, local folders, the well-known models whose numbers `profiles` keeps, and hub ids (of which
only config.json is fetched). Images are known by their sizes only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.models.image_tokens import Size, count_image_tokens
from reroute_cli.models.sources import known, read_config, read_preprocessing
from routing.families import family_of
from routing.model_shape import ModelShape

if TYPE_CHECKING:
    from routing.grids import PatchGrid
from routing.solve import Target
from routing.towers import Tower

MOST_VISUAL = 1_000_000  # tokens of a prompt
MOST_SIDE = 100_000  # pixels: no image and no patch is larger
ELEMENT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Shaped:
    """A model and one image, as arithmetic sees them.

    visual: visual tokens of the image; None where they depend on an image nobody named. grids: its patch
    grids, None where unknown. dtype: of the weights and the KV cache. picture: which image that is. config,
    image: numbers as in config.json and preprocessor_config.json, the second None where it is not known.
    sizes: of the images where they were named.
    """

    name: str
    shape: ModelShape
    vision_tower: str
    dtype: str
    visual: int | None
    grids: tuple[PatchGrid, ...] | None
    picture: str
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    image: Mapping[str, Any] | None = field(default=None, repr=False)
    sizes: tuple[Size, ...] = ()

    def with_pictures(self, sizes: Sequence[Size]) -> Shaped:
        """The same for a prompt of images of these sizes; raises UsageError where that can't be told."""
        made = count_image_tokens(self.shape.family, self.config, self.image, self.shape.tower, sizes)
        names = [f"{width} x {height}" for width, height in sizes]
        return replace(
            self, visual=made.visual, grids=made.grids, picture=", ".join(names), sizes=tuple(sizes)
        )

    def with_visual(self, visual: int | None) -> Shaped:
        """The same for an image of this many visual tokens; raises UsageError when none is known."""
        if visual is None or visual == self.visual:
            if self.visual is None:
                raise UsageError(
                    f"how many visual tokens an image has depends on its size with '{self.name}': "
                    "say it with --image or --visual-tokens"
                )
            return self
        return replace(self, visual=visual, grids=None, picture=f"any of {visual} visual tokens")

    @property
    def target(self) -> Target:
        """What a schedule must fit."""
        shape = self.shape
        return Target(
            len(shape.layers), shape.first_layer, self.visual or 0, self.vision_tower, shape.last_layer
        )


def read_shape(name: str) -> Shaped:
    """The shape of the model called `name`; raises Failure, or UnsupportedModelError from the arithmetic."""
    if entry := known(name):
        shaped = _shaped(entry.name, entry.config)
        return replace(
            shaped,
            visual=entry.visual_tokens,
            grids=entry.grids or None,
            picture=entry.picture,
            image=entry.processor.image if entry.processor else None,
        )
    return replace(_shaped(name, read_config(name)), image=read_preprocessing(name))


def _shaped(name: str, config: Mapping[str, Any]) -> Shaped:
    try:
        _check_sides(config)
        shape = ModelShape.from_config(config)
        if shape.tower is not None:
            _check_tower(shape.tower)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise Failure(f"the config of '{name}' makes no sense ({error}): fetch the model anew") from error
    tower = config.get("vision_config") or {}
    named = str(config.get("dtype") or config.get("torch_dtype") or "")
    native = shape.tower.native if shape.tower is not None and family_of(shape.family).one_size else None
    return Shaped(
        name=name,
        shape=shape,
        vision_tower=str(tower.get("model_type", "")) if isinstance(tower, Mapping) else "",
        dtype=named if named in ELEMENT_BYTES else "bfloat16",
        visual=shape.tower.visual_tokens([native]) if shape.tower is not None and native else None,
        grids=(native,) if native else None,
        picture="one of any size" if native else "",
        config=config,
    )


def _check_sides(config: Mapping[str, Any]) -> None:
    """Images and patches are squares of a whole number of pixels (raises ValueError)."""
    tower = config.get("vision_config")
    for name in ("image_size", "patch_size"):
        value = tower.get(name) if isinstance(tower, Mapping) else None
        sides = value if isinstance(value, list) else [value]
        whole = all(isinstance(side, int) and 1 <= side <= MOST_SIDE for side in sides) and True not in sides
        if value is not None and not (whole and len(sides) in (1, 2) and len(set(sides)) == 1):
            raise ValueError(f"vision_config.{name} is {value!r}")


def _check_tower(tower: Tower) -> None:
    """Every width and count of a tower is positive, and its one image has a patch (raises ValueError)."""
    numbers = (tower.layers, tower.hidden, tower.intermediate, tower.patch, tower.merge)
    if min(*numbers, *(side for weights in tower.projector for side in weights)) < 1:
        raise ValueError("a number in vision_config is not positive")
    if tower.native is not None and not 1 <= tower.visual_tokens([tower.native]) <= MOST_VISUAL:
        raise ValueError(f"its image has {tower.native[1]} x {tower.native[2]} patches")
