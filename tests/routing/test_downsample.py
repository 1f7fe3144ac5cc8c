"""The size to which an image is shrunk, held against every size there is, counted by the library itself."""

from __future__ import annotations

import math
import random

import pytest
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from routing import ScheduleError, solve
from routing.families import FAMILIES
from routing.grids import ImageGrids, Size
from routing.methods.downsample import smaller

LEAST, MOST = 56 * 56, 1280 * 28 * 28
QWEN = {"patch_size": 14, "merge_size": 2, "min_pixels": LEAST, "max_pixels": MOST}
LLAVA = {"vision_config": {"model_type": "clip_vision_model", "image_size": 336, "patch_size": 14}}


def qwen(size: Size) -> ImageGrids:
    """What Qwen2-VL makes of an image."""
    return FAMILIES["qwen2_vl"].grids({}, QWEN, size)


def llava(size: Size) -> ImageGrids:
    """What LLaVA-1.5 makes of an image: one frame of 336 x 336."""
    return FAMILIES["llava"].grids(LLAVA, {}, size)


def counted(size: Size) -> int:
    """Visual tokens of an image, as the library resizes it."""
    high, wide = smart_resize(size[1], size[0], 28, LEAST, MOST)
    return high * wide // 28**2


def every_size(size: Size) -> list[Size]:
    """The image's own shape at every length of its longer side, the largest first."""
    longest = max(size)
    scales = [side / longest for side in range(longest, 0, -1)]
    return [(round(size[0] * scale), round(size[1] * scale)) for scale in scales]


@pytest.mark.parametrize("ratio", [0.1, 0.333, 0.667, 0.889])
def test_no_size_has_a_count_of_tokens_nearer_to_the_amount(ratio: float) -> None:
    """Of all sizes of its shape the nearest is taken, and of equally near ones the largest."""
    draw = random.Random(7)
    for _ in range(12):
        size = draw.randint(150, 1400), draw.randint(150, 1400)
        wanted = (1 - ratio) * counted(size)
        distances = {one: abs(counted(one) - wanted) for one in every_size(size) if min(one) >= 28}
        nearest = next(one for one in distances if distances[one] == min(distances.values()))
        assert smaller(size, ratio, qwen, 14) == nearest, size


def test_an_amount_out_of_reach_takes_the_largest_size_with_the_fewest_tokens() -> None:
    """What the processor would enlarge again is not shrunk that far: only detail would be lost."""

    def floored(size: Size) -> ImageGrids:
        return FAMILIES["qwen3_vl"].grids({}, QWEN | {"patch_size": 16, "min_pixels": 256 * 256}, size)

    wide, high = smaller((600, 600), 0.95, floored, 16)
    assert floored((wide, high)).visual == 64
    assert wide == high
    assert 256 <= wide < 256 + 32


def test_a_processor_that_makes_one_size_of_all_leaves_the_pixels_that_were_asked_for() -> None:
    """Both sides shrink by the square root of what is kept."""
    for ratio in (0.333, 0.75, 0.889):
        scale = math.sqrt(1 - ratio)
        assert smaller((300, 200), ratio, llava, 14) == (round(300 * scale), round(200 * scale))


def test_pixels_that_the_tower_never_saw_are_not_counted() -> None:
    """An image twice as wide and high as the tower's input is first as large as that."""
    assert smaller((672, 672), 0.75, llava, 14) == (168, 168)


@pytest.mark.parametrize("grids", [qwen, llava])
def test_nothing_is_shrunk_for_a_ratio_of_nothing(grids: object) -> None:
    """The image stays as it is, to the pixel."""
    assert smaller((301, 99), 0.0, grids, 14) == (301, 99)  # type: ignore[arg-type]


def test_there_is_no_schedule_to_solve_for() -> None:
    """Who asks the engine for one is told why, whatever the action."""
    for action in ("prune", "reroute"):
        with pytest.raises(ScheduleError, match="downsample schedules nothing"):
            solve("downsample", action=action, ratio=0.5, layers=12)
