"""The place of every visual token, held to what a family's processor and tower make of a changed pixel."""

import copy
import random
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import profiles
from reroute_cli.console.errors import Failure
from reroute_cli.data.images import Picture
from reroute_cli.data.prompts import build_prompt
from reroute_cli.models.dummy import build_config, build_processor
from reroute_cli.studies.trace import ProcessedImage, grids_of
from routing.families import FAMILIES as ROUTED
from routing.grids import DETAIL, OVERVIEW, placed, tokens_within
from tests.cli.studies.trace.sights import FAMILIES, Eye

PICTURES, CELLS = 2, 5
SEEN_IN_PART = ("llava", "vipllava", "llava_next ragged", "paligemma ragged", "smolvlm ragged")
SHRUNK = "llava_onevision shrunk"  # its cells are averages of patches, sampled at their middle
EDGE = 0.35  # share of a cell's width and height that is changed, in one of its corners


def noise(size):
    """A grey image of noise, whose every pixel can change both ways."""
    width, height = size
    return np.random.default_rng(7).integers(90, 166, (height, width, 3), dtype=np.uint8)


def corner(draw, cell, size, *, middle):
    """Whole pixels in a random corner of a cell (or its middle) that lie in the image; None if too few."""
    x1, y1, x2, y2 = cell
    x1, y1, x2, y2 = max(x1, 0), max(y1, 0), min(x2, size[0]), min(y2, size[1])
    wide, high = (x2 - x1) * EDGE, (y2 - y1) * EDGE
    x = (x1 + x2 - wide) / 2 if middle else draw.choice([x1, x2 - wide])
    y = (y1 + y2 - high) / 2 if middle else draw.choice([y1, y2 - high])
    left, top, right, bottom = int(np.ceil(x)), int(np.ceil(y)), int(x + wide), int(y + high)
    return (left, top, right, bottom) if right - left >= 2 and bottom - top >= 2 else None


def meets(cell, patch):
    """Whether a cell and a changed patch of pixels have anything in common."""
    return cell[0] < patch[2] and patch[0] < cell[2] and cell[1] < patch[3] and patch[1] < cell[3]


def strongest(change, grid):
    """The token of a grid whose features changed most."""
    return grid.first + int(change[grid.first : grid.first + grid.count].argmax())


@pytest.mark.parametrize("name", FAMILIES)
def test_pixels_inside_a_cell_change_its_token_most(name):
    """In random images, a change in the corner of a random cell is felt most by the token that has the
    cell, in every other grid by a token whose cell holds changed pixels, and by none without a place.
    """
    eye, draw, looked = Eye(name), random.Random(name), 0
    for turned in range(PICTURES):  # a wide image, then a tall one
        size = (draw.randint(200, 280), draw.randint(110, 140))[:: 1 - 2 * (turned % 2)]
        pixels = noise(size)
        before = eye.features(pixels)
        grids = eye.grids(pixels, len(before))
        for _ in range(CELLS):
            grid = draw.choice(grids)
            token, cell = draw.choice(list(grid.cells()))
            patch = corner(draw, cell, size, middle=name == SHRUNK)
            if patch is None:
                continue
            left, top, right, bottom = patch
            changed = pixels.copy()
            changed[top:bottom, left:right] = (255, 0, 0)
            change = (eye.features(changed) - before).norm(dim=1)
            assert strongest(change, grid) == token, (size, grid.view, token, cell, patch)
            for other in grids:
                cells = dict(other.cells())
                felt = any(meets(place, patch) for place in cells.values())
                if felt and other is not grid and name != SHRUNK:
                    assert meets(cells[strongest(change, other)], patch), (size, other.view, patch)
                assert all(change[end] == 0 for end, _ in other.ends())
            looked += 1
    assert looked >= PICTURES * CELLS // 2


@pytest.mark.parametrize("name", FAMILIES)
def test_every_token_stands_once(name):
    """Cells and row ends of all grids are the visual tokens 0 to V - 1, each once, whatever the shape."""
    eye, draw = Eye(name), random.Random(name)
    for size in (
        (40, 300),
        (300, 40),
        (90, 90),
        *((draw.randint(30, 400), draw.randint(30, 400)) for _ in "abc"),
    ):
        pixels = noise(size)
        visual = len(eye.features(pixels))
        grids = eye.grids(pixels, visual)
        tokens = [token for grid in grids for token, _ in grid.cells()]
        ends = [token for grid in grids for token, _ in grid.ends()]
        assert sorted(tokens + ends) == list(range(visual)), size
        assert placed(grids) == len(tokens)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in SEEN_IN_PART])
def test_the_cells_of_a_view_cover_the_picture_once(name):
    """Where nothing is cropped, a view's cells fill the image without gap or overlap, but for a rim."""
    size = (210, 130)
    pixels = noise(size)
    eye = Eye(name)
    grids = eye.grids(pixels, len(eye.features(pixels)))
    for view in {grid.view for grid in grids}:
        boxes = [cell for grid in grids if grid.view == view for _, cell in grid.cells()]
        inside = [
            (min(x2, size[0]) - max(x1, 0)) * (min(y2, size[1]) - max(y1, 0)) for x1, y1, x2, y2 in boxes
        ]
        assert all(area > 0 for area in inside)
        assert sum(inside) == pytest.approx(size[0] * size[1], rel=0.08 if "llava_" in name else 1e-9)


def test_every_family_that_can_be_routed_is_held_to_its_processor():
    """No family comes without a geometry, and none without the test above."""
    assert {name.split()[0] for name in FAMILIES} == set(ROUTED)


@cache
def real(name):
    """A well-known model's config and processor: its real numbers, no weights."""
    entry = profiles.model(name)
    config = build_config(entry.config)
    return config, build_processor(entry.processor, config.get_text_config().vocab_size)


def placed_in(name, size):
    """The grids of a grey image of this size in a real prompt of a well-known model."""
    config, processor = real(name)
    inputs = build_prompt(processor, [Picture("x", Image.new("RGB", size, (9, 99, 200)), "d")], "?").inputs
    image_id = getattr(config, "image_token_id", None) or config.image_token_index
    visual = int((inputs["input_ids"] == image_id).sum())
    return grids_of(
        ProcessedImage(config.model_type, config, processor.image_processor, inputs, size, visual)
    )


def rows_of(first, wide, rows, columns):
    """Tokens of a block of cells in a grid of `wide` tokens a row."""
    return [first + row * wide + column for row in rows for column in columns]


# An image, where an object is on it, and the tokens that it fills exactly, worked out by hand.
# LLaVA-1.5: 640 x 480 becomes 448 x 336, of which columns 56 to 392 are seen: 80 to 560, 20 pixels a token.
# LLaVA-NeXT: 672 x 504 on four tiles has 36 rows of 48 cells of 14 pixels and a row end behind 576 whole ones
# of 28 x 21. Qwen: 28 pixels a token. InternVL: three tiles of 16 x 16 tokens, then the whole, 84 x 28 each.
# SmolVLM-256M: 900 x 900 is 4 x 4 tiles of 8 x 8 tokens, 28.125 pixels each, then the whole, 112.5 each.
GOLDEN = [
    ("llava-1.5-7b", (640, 480), (100, 40, 180, 80), rows_of(0, 24, (2, 3), (1, 2, 3, 4))),
    (
        "llava-next-7b",
        (672, 504),
        (28, 42, 84, 84),
        rows_of(0, 24, (2, 3), (1, 2)) + rows_of(576, 49, (3, 4, 5), (2, 3, 4, 5)),
    ),
    ("qwen2.5-vl-7b", (672, 560), (56, 84, 140, 112), rows_of(0, 24, (3,), (2, 3, 4))),
    ("qwen3-vl-8b", (640, 320), (64, 32, 128, 96), rows_of(0, 20, (1, 2), (2, 3))),
    (
        "internvl3-8b",
        (1344, 448),
        (420, 28, 504, 56),
        [*rows_of(0, 16, (1,), (15,)), *rows_of(256, 16, (1,), (0, 1)), *rows_of(768, 16, (1,), (5,))],
    ),
    (
        "smolvlm-256m",
        (900, 900),
        (225, 225, 337.5, 337.5),
        [*rows_of(64 * 5, 8, (0, 1, 2, 3), (0, 1, 2, 3)), *rows_of(64 * 16, 8, (2,), (2,))],
    ),
]


@pytest.mark.parametrize(("name", "size", "thing", "tokens"), GOLDEN, ids=lambda part: str(part)[:14])
def test_an_object_fills_the_tokens_worked_out_by_hand(name, size, thing, tokens):
    """With a real model's numbers, the tokens centred in an object's box are the ones on paper."""
    assert list(tokens_within(placed_in(name, size), [thing])) == tokens


@pytest.mark.parametrize(
    ("name", "size", "views"),
    [
        ("qwen2.5-vl-7b", (451, 300), {DETAIL: 1}),
        ("llava-next-7b", (451, 300), {DETAIL: 1, OVERVIEW: 1}),
        ("internvl3-8b", (1344, 448), {DETAIL: 3, OVERVIEW: 1}),
        ("internvl3-8b", (448, 448), {DETAIL: 1}),
        ("smolvlm-256m", (640, 427), {DETAIL: 12, OVERVIEW: 1}),
        ("smolvlm-2.2b", (640, 427), {DETAIL: 12, OVERVIEW: 1}),
    ],
)
def test_a_view_is_the_picture_or_its_tiles(name, size, views):
    """Tiles are the detail, the whole image beside them the overview; alone it is the detail."""
    grids = placed_in(name, size)
    assert {view: sum(grid.view == view for grid in grids) for view in views} == views
    assert sum(views.values()) == len(grids)


def test_pixels_that_no_patch_reaches_belong_to_nobody():
    """SmolVLM-2.2B cuts tiles of 384 pixels into patches of 14: the last 6 of 384 are seen by no token."""
    grids = placed_in("smolvlm-2.2b", (384, 384))
    overview = grids[-1]
    assert overview.columns[-1][1] == pytest.approx(378)
    assert len(overview.columns) == 9


def test_an_odd_margin_is_padded_on_the_side_that_the_processor_pads():
    """A 200 x 131 image is padded to 200 x 200 from 34 pixels above it, not from 34.5."""
    config, processor = Eye("llava padded").model.config, Eye("llava padded")
    (grid,) = processor.grids(noise((200, 131)), 25)
    assert grid.rows[0][0] == -34
    assert config.vision_config.image_size == 20


def test_a_cls_token_that_is_not_dropped_stands_for_no_place():
    """LLaVA with the select strategy 'full' has a token more, before the grid."""
    eye = Eye("llava")
    config = copy.deepcopy(eye.model.config)
    config.vision_feature_select_strategy = "full"
    (grid,) = grids_of(replace(eye.sight(noise((120, 120)), 26), config=config))
    assert (grid.first, grid.count) == (1, 25)


@pytest.mark.parametrize("visual", [24, 26, 400])
def test_tokens_that_do_not_add_up_are_refused(visual):
    """A prompt whose tokens the geometry can't account for is a failure, not a guess."""
    with pytest.raises(Failure, match=r"120 × 90 image has .* disagree"):
        Eye("llava").grids(noise((120, 90)), visual)


def test_patches_that_the_processor_did_not_make_are_refused():
    """Six rows of four tokens are as many as four of six, and stand elsewhere."""
    eye = Eye("qwen2_vl")
    sight = eye.sight(noise((192, 128)), len(eye.features(noise((192, 128)))))
    assert grids_of(sight)
    turned = sight.inputs["image_grid_thw"][:, [0, 2, 1]]
    with pytest.raises(Failure, match="other patches"):
        grids_of(replace(sight, inputs={**sight.inputs, "image_grid_thw": turned}))


def test_an_unknown_family_is_refused():
    """What was never written down is not guessed."""
    sight = ProcessedImage("gemma3", SimpleNamespace(), None, {"pixel_values": torch.zeros(1)}, (9, 9), 1)
    with pytest.raises(Failure, match="gemma3"):
        grids_of(sight)


def test_pixtral_calls_itself_llava():
    """A llava config whose processor reports image sizes is placed as Pixtral's: its rows end in text."""
    eye = Eye("mistral3")
    pixels = noise((120, 60))
    plain = eye.sight(pixels, len(eye.features(pixels)))
    assert grids_of(replace(plain, family="llava")) == grids_of(plain)
