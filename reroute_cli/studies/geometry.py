"""The place of every visual token of one image, held to what its processor and the prompt really made.

Whatever does not add up is refused, never guessed. Knows shapes, not pixels and no weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from reroute_cli.console.errors import Failure
from routing.families import FAMILIES
from routing.grids import (
    Grid,
    ImageGrids,
    Size,
)


@dataclass(frozen=True)
class Sight:
    """One image on its way into a model.

    config: the model's. image_processor: what made the inputs. inputs: the prompt's, its pixel values among
    them. size: of the original image. visual: the prompt's visual tokens, all of this image.
    """

    family: str
    config: Any
    image_processor: Any
    inputs: Mapping[str, Any]
    size: Size
    visual: int


def grids_of(sight: Sight) -> tuple[Grid, ...]:
    """The grids of a prompt with this one image; raises Failure where its tokens can't be placed."""
    if sight.family not in FAMILIES:
        raise Failure(f"where the visual tokens of a {sight.family} picture stand is not known here")
    try:
        found = FAMILIES[sight.family].grids(sight.config, sight.image_processor, sight.size)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise Failure(
            f"the preprocessing numbers of this model make no sense ({error}): mend them"
        ) from error
    width, height = sight.size
    if sight.visual != found.visual:
        raise Failure(
            f"a {width} × {height} picture has {sight.visual} visual tokens here, and the geometry of "
            f"{sight.family} tells the place of {found.visual}: its config.json and its preprocessor disagree"
        )
    if not _as_made(found, sight.inputs):
        raise Failure(
            f"a {width} × {height} picture was cut into other patches than the geometry of {sight.family} "
            "tells: its config.json and its preprocessor disagree"
        )
    return found.cells


def _as_made(found: ImageGrids, inputs: Mapping[str, Any]) -> bool:
    """Whether the processor made these grids: their shapes where it says them, or their number."""
    if "image_grid_thw" in inputs:
        return bool([list(grid) for grid in found.patches] == inputs["image_grid_thw"].tolist())
    return bool(prod(inputs["pixel_values"].shape[:-3]) == len(found.patches))
