"""Visual tokens and patch grids of pictures from their sizes alone: what a family's image processor makes.

Integers from the numbers of a preprocessor_config.json, written from the papers and the library's documented
behaviour; the tests hold them to the library's own processors. Knows no pixels and no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, floor, sqrt
from typing import Any

from reroute_cli.console.errors import Failure, UsageError
from routing.vision_cost import Grid, Tower

Numbers = Mapping[str, Any]
Size = tuple[int, int]  # width, height in pixels
_EITHER = ("image_grid_pinpoints",)  # numbers that may stand in the one file or the other
LONGEST = 4096  # no side of a picture that Idefics3 cuts is longer


@dataclass(frozen=True)
class Pictures:
    """What pictures become: all their visual tokens, and all their grids of patches."""

    visual: int
    grids: tuple[Grid, ...]


def count_pictures(
    family: str, config: Numbers, image: Numbers | None, tower: Tower | None, sizes: Sequence[Size]
) -> Pictures:
    """Tokens and grids of a prompt's pictures; raises UsageError where a size does not tell them.

    config, image: as in config.json and preprocessor_config.json; image None where that is not known.
    """
    counter = _COUNTERS.get(family)
    if tower is None or counter is None or (image is None and counter is not _one_size):
        raise UsageError(
            f"how many visual tokens a {family} picture has can't be told from its size here: "
            "say it with --visual-tokens"
        )
    try:
        numbers = {name: config[name] for name in _EITHER if name in config} | dict(image or {})
        made = [counter(numbers, tower, size) for size in sizes]
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise Failure(
            f"the preprocessing numbers of this model make no sense ({error}): mend them"
        ) from error
    return Pictures(sum(part.visual for part in made), tuple(grid for part in made for grid in part.grids))


def _one_size(_image: Numbers, tower: Tower, _size: Size) -> Pictures:
    """Every picture is scaled and cropped to one square."""
    grids = (_native(tower),)
    return Pictures(tower.visual_tokens(grids), grids)


def _native(tower: Tower) -> Grid:
    if tower.native is None:
        raise ValueError("the tower has no picture size")
    return tower.native


def _merged(image: Numbers, tower: Tower, size: Size) -> Pictures:
    """Qwen: the nearest multiples of a merged patch, then shrunk or enlarged until the area is allowed."""
    patch, merge = int(image["patch_size"]), int(image["merge_size"])
    least, most = _area(image)
    cell, (width, height) = patch * merge, size
    rows, columns = round(height / cell), round(width / cell)
    if rows * columns * cell**2 > most:
        shrink = sqrt(width * height / most)
        rows, columns = (max(1, floor(side / shrink / cell)) for side in (height, width))
    elif rows * columns * cell**2 < least:
        grow = sqrt(least / (width * height))
        rows, columns = (ceil(side * grow / cell) for side in (height, width))
    grids = ((1, rows * merge, columns * merge),)
    return Pictures(tower.visual_tokens(grids), grids)


def _area(image: Numbers) -> tuple[int, int]:
    """Fewest and most pixels, under either of the names that hub files give them."""
    size = image.get("size") or {}
    least = image.get("min_pixels") or size.get("min_pixels") or size["shortest_edge"]
    most = image.get("max_pixels") or size.get("max_pixels") or size["longest_edge"]
    return int(least), int(most)


def _any_resolution(image: Numbers, tower: Tower, size: Size) -> Pictures:
    """LLaVA-NeXT: the whole picture, then its tiles without their padding, with a token at each row's end."""
    _, patches, _ = _native(tower)
    tile = int(image["crop_size"]["height"])
    high, wide = best_canvas(image["image_grid_pinpoints"], size)
    rows, columns = unpadded(high // tile * patches, wide // tile * patches, size)
    grids = (_native(tower),) * (1 + (high // tile) * (wide // tile))
    return Pictures(patches**2 + rows * columns + rows, grids)


def best_canvas(canvases: Sequence[Sequence[int]], size: Size) -> tuple[int, int]:
    """Of (height, width) canvases the one that shows most of the picture, then the one that wastes least."""
    width, height = size

    def worth(canvas: Sequence[int]) -> tuple[int, int]:
        scale = min(canvas[1] / width, canvas[0] / height)
        shown = min(int(width * scale) * int(height * scale), width * height)
        return shown, shown - canvas[0] * canvas[1]

    high, wide = max(canvases, key=worth)
    return high, wide


def unpadded(rows: int, columns: int, size: Size) -> tuple[int, int]:
    """Rows and columns of patches that hold the picture once the padding of its canvas is cut off."""
    width, height = size
    if width / height > columns / rows:
        filled = int(round(height * (columns / width), 7))
        return rows - (rows - filled) // 2 * 2, columns
    filled = int(round(width * (rows / height), 7))
    return rows, columns - (columns - filled) // 2 * 2


def _tiles(image: Numbers, tower: Tower, size: Size) -> Pictures:
    """InternVL: at most max_patches tiles, arranged to be nearest to the picture's shape, and the whole."""
    columns, rows = arrangement(int(image["min_patches"]), int(image["max_patches"]), image["size"], size)
    count = columns * rows
    grids = (_native(tower),) * (count + (count > 1))
    return Pictures(tower.visual_tokens(grids), grids)


def arrangement(least: int, most: int, tile: Numbers, size: Size) -> tuple[int, int]:
    """(columns, rows); of equally near ones the largest that the picture fills by more than half."""
    width, height = size
    sides = range(1, most + 1)
    fitting = [pair for pair in product(sides, sides) if least <= pair[0] * pair[1] <= most]
    best, nearest = (1, 1), float("inf")
    for columns, rows in sorted(fitting, key=lambda pair: pair[0] * pair[1]):
        off = abs(width / height - columns / rows)
        filled = 2 * width * height > tile["height"] * tile["width"] * columns * rows
        if off < nearest or (off == nearest and filled):
            best, nearest = (columns, rows), off
    return best


def _splits(image: Numbers, tower: Tower, size: Size) -> Pictures:
    """Idefics3, SmolVLM: scaled to a longest side, cut into squares, and the whole beside them."""
    tile = int(image["max_image_size"]["longest_edge"])
    longest = min(int(image["size"]["longest_edge"]), LONGEST)
    shorter = max(1, int(longest / (max(size) / min(size))))
    across = ceil(longest / tile)
    down = ceil(int(across * tile / (longest / shorter)) / tile)
    count = across * down if image.get("do_image_splitting", True) and across > 1 else 0
    grids = (_native(tower),) * (count + 1)
    return Pictures(tower.visual_tokens(grids), grids)


_COUNTERS: dict[str, Callable[[Numbers, Tower, Size], Pictures]] = {
    "llava": _one_size,
    "vipllava": _one_size,
    "paligemma": _one_size,
    "llava_next": _any_resolution,
    "qwen2_vl": _merged,
    "qwen2_5_vl": _merged,
    "qwen3_vl": _merged,
    "internvl": _tiles,
    "idefics3": _splits,
    "smolvlm": _splits,
}
