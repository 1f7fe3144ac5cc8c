"""Visual tokens and patch grids of images from their sizes alone: what a family's image processor makes.

Integers from the numbers of a preprocessor_config.json; the arithmetic is each family's own, in
routing/families. Knows no pixels and no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reroute_cli.console.errors import Failure, UsageError
from routing.families import family_of
from routing.grids import PatchGrid, Size

if TYPE_CHECKING:
    from routing.towers import Tower

__all__ = ["ImageTokens", "Size", "count_image_tokens"]


@dataclass(frozen=True)
class ImageTokens:
    """What images become: all their visual tokens, and all their grids of patches."""

    visual: int
    grids: tuple[PatchGrid, ...]


def count_image_tokens(
    family: str,
    config: Mapping[str, Any],
    image: Mapping[str, Any] | None,
    tower: Tower | None,
    sizes: Sequence[Size],
) -> ImageTokens:
    """Tokens and grids of a prompt's images; raises UsageError where a size does not tell them.

    config, image: as in config.json and preprocessor_config.json; image None where that is not known.
    """
    known = family_of(family)
    untold = UsageError(
        f"how many visual tokens a {family} image has can't be told from its size here: "
        "say it with --visual-tokens"
    )
    if tower is None or (image is None and not known.one_size):
        raise untold
    try:
        made = [known.grids(config, image or {}, size) for size in sizes]
    except NotImplementedError as reason:
        raise untold from reason
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise Failure(
            f"the preprocessing numbers of this model make no sense ({error}): mend them"
        ) from error
    return ImageTokens(sum(one.visual for one in made), tuple(grid for one in made for grid in one.patches))
