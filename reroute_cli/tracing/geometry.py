"""From what a family's image processor made of a picture to the place of every visual token on it.

Sizes of grids are read from the processor's own output and the model's config wherever they stand there; only
what neither says (the canvas of tiles) is worked out again. Whatever does not add up to the tokens that the
prompt really has is refused, never guessed. Knows shapes, not pixels and no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, floor, sqrt
from typing import Any

from reroute_cli.boxes import view_of
from reroute_cli.console.errors import Failure
from reroute_cli.planning.pictures import LONGEST, arrangement, best_canvas, unpadded
from reroute_cli.tracing.grids import DETAIL, OVERVIEW, Box, Grid, Size, Span, covered, spans


@dataclass(frozen=True)
class Sight:
    """One picture on its way into a model.

    config: the model's. image_processor: what made the inputs. inputs: the prompt's, its pixel values among
    them. size: of the original picture. visual: the prompt's visual tokens, all of this picture.
    """

    family: str
    config: Any
    image_processor: Any
    inputs: Mapping[str, Any]
    size: Size
    visual: int

    @property
    def whole(self) -> Box:
        """The original picture."""
        return (0.0, 0.0, float(self.size[0]), float(self.size[1]))

    @property
    def patch(self) -> int:
        """Pixels of a patch's side in the vision tower."""
        patch = self.config.vision_config.patch_size
        return int(patch[0] if isinstance(patch, list | tuple) else patch)

    @property
    def frame(self) -> Size:
        """Width and height of what enters the tower, or of one tile."""
        high, wide = self.inputs["pixel_values"].shape[-2:]
        return int(wide), int(high)


def grids_of(sight: Sight) -> tuple[Grid, ...]:
    """The grids of a prompt with this one picture; raises Failure where its tokens can't be placed."""
    place = _PLACES.get(sight.family)
    if place is None:
        raise Failure(f"where the visual tokens of a {sight.family} picture stand is not known here")
    grids = place(sight)
    _check(sight, grids)
    return grids


def _check(sight: Sight, grids: tuple[Grid, ...]) -> None:
    """Grids hold every token but one before (CLS) or behind (a newline) that stands for no place."""
    counted = sum(grid.count for grid in grids)
    if not 0 <= sight.visual - counted <= 1:
        width, height = sight.size
        raise Failure(
            f"a {width} × {height} picture has {sight.visual} visual tokens here, and the geometry of "
            f"{sight.family} tells the place of {counted}: its config.json and its preprocessor disagree"
        )


def _one_frame(sight: Sight) -> tuple[Grid, ...]:
    """LLaVA-1.5, ViP-LLaVA, PaliGemma: one square frame; a CLS token that is not dropped comes first."""
    if "image_sizes" in sight.inputs:  # Pixtral-12B calls itself llava
        return _resized(sight)
    view = view_of(sight.family, sight.image_processor, sight.inputs, sight.size)
    box = (view.left, view.top, view.left + view.width, view.top + view.height)
    rows, columns = (side // sight.patch for side in reversed(sight.frame))
    return (_patches(sight, box, rows, columns, first=sight.visual - rows * columns),)


def _patches(
    sight: Sight, box: Box, rows: int, columns: int, *, first: int, view: str = DETAIL, merge: int = 1
) -> Grid:
    """A grid over a frame that shows `box`, whose last pixels no patch may reach."""
    wide, high = sight.frame
    cell = sight.patch * merge
    left, top, right, bottom = box
    across, down = (right - left) / wide, (bottom - top) / high
    return Grid(view, spans(rows, top, cell * down), spans(columns, left, cell * across), first)


def _grid_thw(sight: Sight) -> tuple[Grid, ...]:
    """Qwen-VL, GLM-4V: the picture stretched to a grid of patches, a square of them to a token."""
    _, rows, columns = (int(number) for number in sight.inputs["image_grid_thw"][0].tolist())
    merge = int(sight.config.vision_config.spatial_merge_size)
    return (covered(sight.whole, rows // merge, columns // merge),)


def _resized(sight: Sight) -> tuple[Grid, ...]:
    """Pixtral, Mistral 3: the picture stretched to whole cells; what ends a row is text."""
    high, wide = (int(number) for number in sight.inputs["image_sizes"][0])
    cell = sight.patch * int(getattr(sight.config, "spatial_merge_size", 1))
    return (covered(sight.whole, high // cell, wide // cell),)


def _aspect_tiles(sight: Sight) -> tuple[Grid, ...]:
    """InternVL: the picture stretched to columns × rows of square tiles, then the whole once more."""
    count = int(sight.inputs["pixel_values"].shape[0])
    if count == 1:
        return _tiled(sight, 1, 1, _internvl_merge(sight), overview=False)
    processor = sight.image_processor
    tile = {"width": sight.frame[0], "height": sight.frame[1]}
    columns, rows = arrangement(int(processor.min_patches), int(processor.max_patches), tile, sight.size)
    if columns * rows + 1 != count:
        raise Failure(f"{count} tiles were made of a picture that {columns} × {rows} and an overview fit")
    return _tiled(sight, rows, columns, _internvl_merge(sight), overview=True)


def _internvl_merge(sight: Sight) -> int:
    return round(1 / float(sight.config.downsample_ratio))


def _split(sight: Sight) -> tuple[Grid, ...]:
    """Idefics3, SmolVLM: the picture stretched to rows × columns of tiles, then the whole once more."""
    count, merge = int(sight.inputs["pixel_values"].shape[1]), int(sight.config.scale_factor)
    if count == 1:
        return _tiled(sight, 1, 1, merge, overview=False)
    rows, columns = _split_shape(sight)
    if rows * columns + 1 != count:
        raise Failure(f"{count} tiles were made of a picture that {columns} × {rows} and an overview fit")
    return _tiled(sight, rows, columns, merge, overview=True)


def _split_shape(sight: Sight) -> tuple[int, int]:
    """Rows and columns of tiles: the longer side is scaled to whole tiles, the other follows, then is cut."""
    width, height = sight.size
    tile, longest = sight.frame[0], min(int(dict(sight.image_processor.size)["longest_edge"]), LONGEST)
    shorter = int(longest / (max(sight.size) / min(sight.size)))
    shorter = max(1, shorter + shorter % 2)
    along = ceil(longest / tile)
    beside = max(1, ceil(int(along * tile / (longest / shorter)) / tile))
    return (beside, along) if width >= height else (along, beside)


def _tiled(sight: Sight, rows: int, columns: int, merge: int, *, overview: bool) -> tuple[Grid, ...]:
    """Tiles row by row, each with its tokens, and the whole picture behind them."""
    width, height = sight.size
    wide, high = sight.frame
    across, down = wide // sight.patch // merge, high // sight.patch // merge
    boxes = [
        (
            column * width / columns,
            row * height / rows,
            (column + 1) * width / columns,
            (row + 1) * height / rows,
        )
        for row in range(rows)
        for column in range(columns)
    ]
    views = [DETAIL] * len(boxes) + [OVERVIEW] * overview
    return tuple(
        _patches(sight, box, down, across, first=index * across * down, view=view, merge=merge)
        for index, (box, view) in enumerate(
            zip([*boxes, sight.whole] if overview else boxes, views, strict=True)
        )
    )


def _any_resolution(sight: Sight) -> tuple[Grid, ...]:
    """LLaVA-NeXT, LLaVA-OneVision: the whole picture, then its tiles as one canvas without padding."""
    canvas = _canvas(sight)
    base = canvas.side * canvas.side
    overview = _patches(sight, sight.whole, canvas.side, canvas.side, first=0, view=OVERVIEW)
    rows, columns = canvas.shrunk(_most_tiles(sight))
    down = tuple(canvas.down(span) for span in _parts(canvas.top, canvas.bottom, rows))
    across = tuple(canvas.across(span) for span in _parts(canvas.left, canvas.right, columns))
    return (Grid(DETAIL, down, across, base, row_ends=True), overview)


def _most_tiles(sight: Sight) -> int | None:
    """LLaVA-OneVision scales down a canvas of many more patches than so many tiles have."""
    ratio = getattr(sight.config, "vision_aspect_ratio", None)
    return int(str(ratio).removeprefix("anyres_max_")) if ratio else None


def _parts(start: int, end: int, count: int) -> tuple[Span, ...]:
    return spans(count, start, (end - start) / count) if count else ()


@dataclass(frozen=True)
class _Canvas:
    """Tiles side by side, with the picture in their middle.

    tile: pixels of a tile's side. patch: of a patch's. side: patches along a tile's side. top, bottom, left,
    right: patches of the canvas that are left once its padding is cut off. pasted: where the picture begins,
    in pixels of the canvas. scale: pixels of the original for one of the canvas.
    """

    tile: int
    patch: int
    side: int
    top: int
    bottom: int
    left: int
    right: int
    pasted: Size
    scale: tuple[float, float]

    def shrunk(self, tiles: int | None) -> tuple[int, int]:
        """Rows and columns of tokens."""
        rows, columns = self.bottom - self.top, self.right - self.left
        ratio = sqrt(rows * columns / (tiles * self.side**2)) if tiles else 0.0
        return (int(rows // ratio), int(columns // ratio)) if ratio > 1.1 else (rows, columns)

    def across(self, span: Span) -> Span:
        """A span of patches of the canvas, in pixels of the original's width."""
        return self._original(span, 0)

    def down(self, span: Span) -> Span:
        """The same for its height."""
        return self._original(span, 1)

    def _original(self, span: Span, axis: int) -> Span:
        start, end = span
        first, last = floor(start) // self.side, (ceil(end) - 1) // self.side  # the tiles of the two ends
        pixels = (
            first * self.tile + (start - first * self.side) * self.patch,
            last * self.tile + (end - last * self.side) * self.patch,
        )
        low, high = ((pixel - self.pasted[axis]) * self.scale[axis] for pixel in pixels)
        return low, high


def _canvas(sight: Sight) -> _Canvas:
    """The canvas that shows most of the picture, with the picture scaled into it and centred."""
    width, height = sight.size
    tile = int(sight.config.vision_config.image_size)
    side = tile // sight.patch
    high, wide = best_canvas(sight.config.image_grid_pinpoints, sight.size)
    if wide / width < high / height:
        shown = (wide, min(ceil(height * (wide / width)), high))
    else:
        shown = (min(ceil(width * (high / height)), wide), high)
    rows, columns = high // tile * side, wide // tile * side
    kept_rows, kept_columns = unpadded(rows, columns, sight.size)
    top, left = (rows - kept_rows) // 2, (columns - kept_columns) // 2
    return _Canvas(
        tile,
        sight.patch,
        side,
        top,
        top + kept_rows,
        left,
        left + kept_columns,
        ((wide - shown[0]) // 2, (high - shown[1]) // 2),
        (width / shown[0], height / shown[1]),
    )


_PLACES: dict[str, Callable[[Sight], tuple[Grid, ...]]] = {
    "llava": _one_frame,
    "vipllava": _one_frame,
    "paligemma": _one_frame,
    "llava_next": _any_resolution,
    "llava_onevision": _any_resolution,
    "qwen2_vl": _grid_thw,
    "qwen2_5_vl": _grid_thw,
    "qwen3_vl": _grid_thw,
    "qwen3_vl_moe": _grid_thw,
    "glm4v": _grid_thw,
    "glm46v": _grid_thw,
    "internvl": _aspect_tiles,
    "idefics3": _split,
    "smolvlm": _split,
    "mistral3": _resized,
}
