"""The place of every visual token of one image, held to what its processor and the prompt really made.

Whatever does not add up is refused, never guessed. Knows shapes, not pixels and no weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from reroute_cli.console.errors import Failure
from routing.families import family_of

if TYPE_CHECKING:
    from routing.grids import Grid, Size


@dataclass(frozen=True)
class ProcessedImage:
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


def grids_of(made: ProcessedImage) -> tuple[Grid, ...]:
    """The grids of a prompt with this one image; raises Failure where its tokens can't be placed."""
    try:
        found = family_of(made.family).grids(made.config, made.image_processor, made.size)
    except NotImplementedError as reason:
        raise Failure(
            f"where the visual tokens of {made.family} images stand is not known, so they can't be traced: "
            f"{reason}"
        ) from reason
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise Failure(
            f"the preprocessing numbers of this model make no sense ({error}): mend them"
        ) from error
    width, height = made.size
    if made.visual != found.visual:
        raise Failure(
            f"a {width} × {height} image has {made.visual} visual tokens here, and the geometry of "
            f"{made.family} tells the place of {found.visual}: its config.json and its preprocessor disagree"
        )
    # the processor made these grids: their shapes where it says them, or else their number
    if "image_grid_thw" in made.inputs:
        same = [list(grid) for grid in found.patches] == made.inputs["image_grid_thw"].tolist()
    else:
        same = len(found.patches) == prod(made.inputs["pixel_values"].shape[:-3])
    if not same:
        raise Failure(
            f"a {width} × {height} image was cut into other patches than the geometry of {made.family} "
            "tells: its config.json and its preprocessor disagree"
        )
    return found.cells
