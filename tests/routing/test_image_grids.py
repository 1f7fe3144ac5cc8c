"""What an image becomes, where the library has functions that say it, too: theirs and ours agree.

The families with well-known numbers are held to whole processors in tests/cli/data/test_picture_tokens.py,
all of them to their processors and towers in tests/cli/studies/trace/test_geometry.py.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from types import SimpleNamespace

from transformers.models.glm4v.image_processing_pil_glm4v import smart_resize
from transformers.models.llava_onevision.processing_llava_onevision import LlavaOnevisionProcessor
from transformers.models.pixtral.image_processing_pil_pixtral import _num_image_tokens

from routing.families import FAMILIES

SIZES = 400
CANVASES = [[384 * down, 384 * across] for down in range(1, 7) for across in range(1, 7)]


def sizes(most_slender: int) -> Iterator[tuple[int, int]]:
    """Seeded widths and heights, small and large."""
    draw = random.Random(5)
    for _ in range(SIZES):
        most = draw.choice([20, 60, 200, 2000, 9000])
        size = draw.randint(1, most), draw.randint(1, most)
        if max(size) < most_slender * min(size):
            yield size


def test_glm_resizes_as_the_library_does() -> None:
    """The area of all frames of a patch is within its bounds, and tiny images grow to one cell."""
    least, most = 112 * 112, 14 * 14 * 2 * 2 * 2 * 6144
    image = {
        "patch_size": 14,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "size": {"shortest_edge": least, "longest_edge": most},
    }
    for width, height in sizes(190):
        high, wide = smart_resize(2, height, width, 2, 28, least, most)
        made = FAMILIES["glm4v"].grids({}, image, (width, height))
        assert made.patches == ((1, high // 14, wide // 14),), (width, height)
        assert made.visual == high * wide // 28**2


def test_pixtral_cuts_as_the_library_does() -> None:
    """Shrunk to the longest side that is allowed, then whole cells of two patches."""
    config, image = {"vision_config": {"patch_size": 14}}, {"size": {"longest_edge": 1540}}
    for width, height in sizes(1000):
        ratio = max(1.0, max(width, height) / 1540)
        rows, columns = _num_image_tokens((math.floor(height / ratio), math.floor(width / ratio)), (28, 28))
        made = FAMILIES["mistral3"].grids(config, image, (width, height))
        assert (made.visual, made.patches) == (rows * columns, ((1, 2 * rows, 2 * columns),)), (width, height)


def test_llava_onevision_counts_as_the_library_does() -> None:
    """Overview, unpadded canvas, row ends, and the shrinking of canvases of more than nine tiles."""
    theirs = SimpleNamespace(
        image_processor=SimpleNamespace(image_grid_pinpoints=CANVASES),
        num_image_tokens=27**2,
        vision_aspect_ratio="anyres_max_9",
        _get_unpadded_features=lambda *shape: LlavaOnevisionProcessor._get_unpadded_features(theirs, *shape),
    )
    tower = {"model_type": "siglip_vision_model", "image_size": 384, "patch_size": 14}
    config = {"vision_config": tower, "image_grid_pinpoints": CANVASES}
    for width, height in sizes(100):
        count = LlavaOnevisionProcessor._get_number_of_features(theirs, height, width, 384, 384)
        assert FAMILIES["llava_onevision"].grids(config, {}, (width, height)).visual == count, (width, height)
