"""Boxes in answers, family by family, in pixels of the original picture."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from reroute_cli.measure.judges import View, decode_boxes, view_of

WHOLE = View(0, 0, 640, 480, 640, 480)


@pytest.mark.parametrize(
    ("family", "answer", "boxes"),
    [
        ("llava", "[0.25,0.5,0.75,1.00]", [(160, 240, 480, 480)]),
        ("llava", "The cup is at [0.1, 0.2, 0.3, 0.4].", [(64, 96, 192, 192)]),
        ("llava_next", "[0, 0, 1, 1]", [(0, 0, 640, 480)]),
        ("qwen2_vl", "the cup(250,500),(750,1000)", [(160, 240, 480, 480)]),
        ("qwen2_vl", "(100, 200), (300, 400)", [(64, 96, 192, 192)]),
        (
            "qwen3_vl",
            '```json\n[\n\t{"bbox_2d": [250, 500, 750, 1000], "label": "cup"},\n'
            '\t{"bbox_2d": [0, 0, 500, 500], "label": "car"}\n]\n```',
            [(160, 240, 480, 480), (0, 0, 320, 240)],
        ),
        ("internvl", "<ref>cup</ref><box>[[250, 500, 750, 1000]]</box>", [(160, 240, 480, 480)]),
        ("internvl", "cup[[250, 500, 750, 1000]]", [(160, 240, 480, 480)]),
        (
            "qwen2_vl",
            "<|object_ref_start|>cup<|object_ref_end|><|box_start|>(250,500),(750,1000)<|box_end|><|im_end|>",
            [(160, 240, 480, 480)],
        ),
        ("qwen2_vl", '[{"bbox_2d": [250, 500, 750, 1000], "label": "cup"}]', [(160, 240, 480, 480)]),
        ("glm4v", "It is at <|begin_of_box|>[[250,500,750,1000]]<|end_of_box|>", [(160, 240, 480, 480)]),
        ("glm4v", "<|begin_of_box|>(250,500,750,1000)<|end_of_box|>", [(160, 240, 480, 480)]),
        ("glm46v", "<|begin_of_box|><250, 500, 750, 1000><|end_of_box|>", [(160, 240, 480, 480)]),
        (
            "glm4v",
            "<think>Perhaps [[0,0,9,9]], or rather [[1,1,8,8]].</think><answer>The cup is at "
            "<|begin_of_box|>[[250,500,750,1000]]<|end_of_box|>.</answer>",
            [(160, 240, 480, 480)],
        ),
        (
            "paligemma",
            "<loc0512><loc0256><loc1023><loc0768> cup ; <loc0000><loc0000><loc0512><loc0512> cup",
            [(160, 240, 480, 479.53), (0, 0, 320, 240)],
        ),
        ("paligemma", "<loc0512><loc0256><loc1023><loc0768> cup", [(160, 240, 480, 479.53)]),
    ],
)
def test_each_family_writes_boxes_its_own_way(family, answer, boxes):
    """Answers as the models write them, on a picture of 640 x 480."""
    assert decode_boxes(answer, family, WHOLE, (640, 480)) == boxes


def test_qwen25_writes_pixels_of_the_resized_picture():
    """Qwen2.5-VL counts pixels of what entered the tower: 644 x 476 for a picture of 1288 x 952."""
    view = View(0, 0, 1288, 952, 644, 476)
    answer = '```json\n[{"bbox_2d": [64, 48, 322, 238], "label": "cup"}]\n```'
    assert decode_boxes(answer, "qwen2_5_vl", view, (1288, 952)) == [(128, 96, 644, 476)]


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "no",
        "[0.5,0.5,0.2,0.9]",
        "[0.1,0.2,0.1,0.4]",
        "[0.1,0.2,0.3]",
        "[0.1,0.2,0.3,0.4,0.5]",
        "[1.5,0.2,1.9,0.4]",
        "[-0.5,0.2,0.4,0.4]",
        "[nan,0,1,1]",
        "[0.1,0.2,0.3,0.4",
        "[99999999999999999999999999,0,1,1]",
        "[[[[" * 5000,
        "[0.1," * 20000,
        "(0.1,0.2)",
        "[10%, 20%, 30%, 40%]",
        "[64, 96, 192, 192]",
        "x1=0.1, y1=0.2, x2=0.3, y2=0.4",
        "[x0.1,y0.2,x0.3,y0.4]",
        "[0.1 0.2 0.3 0.4]",
        "(0.9,0.8),(0.1,0.2)",
        "[0.9,0.2,1.2,0.4]",
        "<think>[0.1,0.2,0.3,0.4]",
        "[" + " " * 50000,
        "(" * 50000,
        "[1,1,1," * 9999,
        "(1,1)" * 9999,
        "<loc0512>" * 3,
    ],
    ids=lambda answer: answer[:20],
)
def test_garbage_is_no_box(answer):
    """Inverted, empty, incomplete, out of range or endless: no box, no error."""
    assert decode_boxes(answer, "llava", WHOLE, (640, 480)) == []


@pytest.mark.parametrize(
    ("answer", "box"),
    [
        ("[0.5,0.5,1.01,1.02]", (320, 240, 640, 480)),
        ("[-0.02,0,0.5,0.5]", (0, 0, 320, 240)),
        ("[0.9,0.2,1.1,0.4]", (576, 96, 640, 192)),
    ],
)
def test_a_box_that_reaches_too_far_ends_at_the_edge(answer, box):
    """A box with its centre in the picture is one, and what lies outside is cut off."""
    assert decode_boxes(answer, "llava", WHOLE, (640, 480)) == [box]


@pytest.mark.parametrize(
    "answer", ["cup[0.1,0.2,0.3,0.4]there", "0.9[0.1,0.2,0.3,0.4]0.9", "[[0.1,0.2,0.3,0.4]]"]
)
def test_a_box_may_be_glued_to_what_stands_around_it(answer):
    """Words, numbers and more brackets beside a box do not hide it."""
    assert decode_boxes(answer, "llava", WHOLE, (640, 480)) == [(64, 96, 192, 192)]


def test_what_a_crop_cuts_off_is_in_no_box():
    """A box that reaches beyond the crop that LLaVA saw ends where the crop does, not in the picture."""
    side = {"height": 336, "width": 336}
    clip = SimpleNamespace(do_pad=None, do_center_crop=True, size={"shortest_edge": 336}, crop_size=side)
    view = view_of("llava", clip, {}, (640, 480))
    assert decode_boxes("[0.5,0.5,1.1,1.1]", "llava", view, (640, 480)) == [(320, 240, 560, 480)]


def test_qwen25_may_miss_the_edge_by_a_pixel():
    """Pixels of the resized picture just outside are its edge; those of a larger picture are no box."""
    view = View(0, 0, 1288, 952, 644, 476)
    assert decode_boxes("[322, 238, 645, 478]", "qwen2_5_vl", view, (1288, 952)) == [(644, 476, 1288, 952)]
    assert decode_boxes("[900, 600, 1200, 900]", "qwen2_5_vl", view, (1288, 952)) == []


def test_boxes_keep_their_order_and_survive_garbage_between_them():
    """What is well-formed is found whatever stands around it."""
    answer = "[0.5,0.5,1,1] or [9,9,9,9] or perhaps [0,0,0.5,0.5]?"
    boxes = decode_boxes(answer, "llava", WHOLE, (640, 480))
    assert boxes == [(320, 240, 640, 480), (0, 0, 320, 240)]


def test_a_crop_is_mapped_back_to_the_original():
    """LLaVA saw the middle 480 x 480 of 640 x 480: its 0 and 1 are 80 and 560 pixels across."""

    side = {"height": 336, "width": 336}
    clip = SimpleNamespace(do_pad=None, do_center_crop=True, size={"shortest_edge": 336}, crop_size=side)
    view = view_of("llava", clip, {}, (640, 480))
    assert decode_boxes("[0,0,1,1]", "llava", view, (640, 480)) == [(80, 0, 560, 480)]


def test_padding_to_a_square_is_taken_off():
    """A 400 x 200 picture padded to 400 x 400: its 0.25 to 0.75 downwards are the whole height."""

    view = view_of("llava", SimpleNamespace(do_pad=True), {}, (400, 200))
    assert decode_boxes("[0,0.25,1,0.75]", "llava", view, (400, 200)) == [(0, 0, 400, 200)]
    assert decode_boxes("[0,0,1,1]", "llava", view, (400, 200)) == [(0, 0, 400, 200)]


def test_pixtral_under_llavas_name_sees_the_whole_picture():
    """Its processor pads a batch of pictures to one size, which is no square around each of them."""
    pixtral = SimpleNamespace(do_pad=True, do_center_crop=None)
    view = view_of("llava", pixtral, {"image_sizes": [(112, 224)]}, (400, 200))
    assert decode_boxes("[0,0.5,1,1]", "llava", view, (400, 200)) == [(0, 100, 400, 200)]


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (64, 50), (500, 499)])
def test_the_view_is_what_the_processor_really_crops(pocket, size):
    """A marked spot found in the processor's output lies where the view says, within a resized pixel."""
    width, height = size
    spot = (width * 0.5, height * 0.55, width * 0.6, height * 0.7)
    image = Image.new("RGB", size, "black")
    ImageDraw.Draw(image).rectangle([spot[0], spot[1], spot[2] - 1, spot[3] - 1], fill="white")
    processor = pocket.processor.image_processor
    seen = processor(images=[image], return_tensors="np")["pixel_values"][0].mean(0)
    rows, columns = np.where(seen > seen.min() + 0.5 * np.ptp(seen))
    side = seen.shape[-1]
    found = [columns.min() / side, rows.min() / side, (columns.max() + 1) / side, (rows.max() + 1) / side]
    answer = "[" + ",".join(f"{value:.4f}" for value in found) + "]"
    [box] = decode_boxes(answer, "llava", view_of("llava", processor, {}, size), size)
    assert box == pytest.approx(spot, abs=1.5 * min(size) / side + 1)
