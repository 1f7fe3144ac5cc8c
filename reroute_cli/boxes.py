"""Boxes that a model writes, in pixels of the original picture.

Every family writes them its own way: CONVENTIONS says in which units, `view_of` what part the model saw.
A model that thinks aloud writes its thoughts before `</think>`, and some wrap the answer itself: GLM-4.1V in
<answer> tags and around what is asked for <|begin_of_box|> … <|end_of_box|>. A box or a yes among the
thoughts is no answer. Knows answers as text and sizes as integers; no model and no file. Text that is no box
is no error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reroute_cli.data.items import Box

_DECIMALS = 2

_NUMBER = r"\s*(-?\d{1,6}(?:\.\d{1,6})?)\s*"
_FOUR = rf"{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}"
_BRACKETS = re.compile(rf"(?:\[{_FOUR}\]|\({_FOUR}\)|<{_FOUR}>)")
_CORNERS = re.compile(rf"\({_NUMBER},{_NUMBER}\)\s*,?\s*\({_NUMBER},{_NUMBER}\)")
_LOCATIONS = re.compile(r"<loc(\d{4})>\s*<loc(\d{4})>\s*<loc(\d{4})>\s*<loc(\d{4})>")
_FORMS = (_BRACKETS, _CORNERS, _LOCATIONS)
_THOUGHTS = ("<think>", "</think>")
_MARKS = re.compile(r"</?answer>|<\|(?:begin|end)_of_box\|>")
_MARKED = re.compile(r"<\|begin_of_box\|>(.*?)(?:<\|end_of_box\|>|$)", re.DOTALL)


@dataclass(frozen=True)
class View:
    """What part of the original picture the model saw, and at which size.

    left, top, width, height: in pixels of the original (a centre crop may also reach beyond it, as padding).
    columns, rows: the size of the resized picture that entered the vision tower, in pixels.
    """

    left: float
    top: float
    width: float
    height: float
    columns: int
    rows: int


@dataclass(frozen=True)
class Convention:
    """How one family writes coordinates.

    title: to show. full: what stands for the whole width and height; None: pixels of the resized picture.
    y_first: the order is y1, x1, y2, x2.
    """

    title: str
    full: float | None
    y_first: bool = False

    def across(self, view: View) -> tuple[float, float]:
        """The numbers that stand for the full width and the full height of the view."""
        return (float(view.columns), float(view.rows)) if self.full is None else (self.full, self.full)


_UNIT = Convention("0–1", 1.0)
_THOUSAND = Convention("0–1000", 1000.0)
_RESIZED = Convention("pixels of the resized picture", None)
_LOC = Convention("<loc0000>–<loc1023>", 1024.0, y_first=True)

CONVENTIONS: dict[str, Convention] = {
    "llava": _UNIT,
    "llava_next": _UNIT,
    "llava_onevision": _UNIT,
    "vipllava": _UNIT,
    "qwen2_vl": _THOUSAND,
    "qwen2_5_vl": _RESIZED,
    "qwen3_vl": _THOUSAND,
    "qwen3_vl_moe": _THOUSAND,
    "internvl": _THOUSAND,
    "glm4v": _THOUSAND,
    "glm46v": _THOUSAND,
    "paligemma": _LOC,
}
"""Families not named here (idefics3, smolvlm, mistral3, ...) have no published way to write a box.

Where each is stated: LLaVA, of the square that it sees, padding included: github.com/haotian-liu/LLaVA
issue 606. Qwen2-VL, [0, 1000): its paper, arxiv.org/abs/2409.12191, "Data Format". Qwen2.5-VL and Qwen3-VL:
QwenLM/Qwen3-VL issues 991 and 1427, cookbooks/2d_grounding.ipynb. InternVL: OpenGVLab/InternVL issue 285.
GLM-4.1V, where the brackets may be of any kind: zai-org/GLM-V, README, Grounding. PaliGemma:
google-research/big_vision, configs/proj/paligemma/README.md.
"""

_ONE_FRAME = ("llava", "vipllava")  # one square picture, not tiles: what lies outside it is never seen


def decode_boxes(answer: str, family: str, view: View, size: tuple[int, int]) -> list[Box]:
    """Every well-formed box in what is meant as the answer, in order, clipped to what the model saw.

    Four numbers are no box that are inverted, empty, or have their centre out of the family's range: a model
    that writes pixels where fractions are due has not written a box, one that reaches a pixel too far has.
    view: what was seen of the original picture, which is `size` (w, h) large.
    """
    convention = CONVENTIONS[family]
    found = (_box(numbers, convention, view, size) for numbers in _quads(final_answer(answer)))
    return [box for box in found if box is not None]


def _box(numbers: tuple[float, ...], convention: Convention, view: View, size: tuple[int, int]) -> Box | None:
    """Four numbers in the order in which they were written, as a box in pixels of the original."""
    y1, x1, y2, x2 = numbers if convention.y_first else (numbers[1], numbers[0], numbers[3], numbers[2])
    across, down = convention.across(view)
    if not (x1 < x2 and y1 < y2 and 0 <= x1 + x2 <= 2 * across and 0 <= y1 + y2 <= 2 * down):
        return None
    left, right = (view.left + min(max(x / across, 0.0), 1.0) * view.width for x in (x1, x2))
    top, bottom = (view.top + min(max(y / down, 0.0), 1.0) * view.height for y in (y1, y2))
    return _clipped((left, top, right, bottom), size)


def _quads(answer: str) -> list[tuple[float, ...]]:
    """All groups of four numbers that are written as a box, by position."""
    found = [match for form in _FORMS for match in form.finditer(answer)]
    return [
        tuple(float(number) for number in match.groups() if number is not None)
        for match in sorted(found, key=lambda match: match.start())
    ]


def _clipped(box: Box, size: tuple[int, int]) -> Box | None:
    """The part of the box inside the picture, rounded; None when there is none."""
    width, height = size
    x1, x2 = (round(min(max(x, 0.0), width), _DECIMALS) for x in (box[0], box[2]))
    y1, y2 = (round(min(max(y, 0.0), height), _DECIMALS) for y in (box[1], box[3]))
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 and math.isfinite(x1 + y1 + x2 + y2) else None


def view_of(family: str, image_processor: Any, inputs: Mapping[str, Any], size: tuple[int, int]) -> View:
    """What the model saw of a picture of `size` (w, h), read from its image processor and its outputs.

    A processor that reports a patch grid (Qwen, GLM) resized the whole picture to that grid. LLaVA's resizes
    the shorter side and crops the centre, or pads to a square first. Every other one saw the whole picture.
    """
    width, height = size
    if "image_grid_thw" in inputs:
        _, rows, columns = (int(n) for n in inputs["image_grid_thw"][0].tolist())
        patch = int(image_processor.patch_size)
        return View(0.0, 0.0, width, height, columns * patch, rows * patch)
    if family not in _ONE_FRAME or "image_sizes" in inputs:  # Pixtral-12B calls itself llava
        return View(0.0, 0.0, width, height, width, height)
    if image_processor.do_pad:
        side = max(width, height)
        return View(-float((side - width) // 2), -float((side - height) // 2), side, side, side, side)
    if image_processor.do_center_crop:
        return _cropped_view(image_processor, width, height)
    return View(0.0, 0.0, width, height, width, height)


def _cropped_view(image_processor: Any, width: int, height: int) -> View:
    """The centre crop of the resized picture, measured in original pixels."""
    columns, rows = int(image_processor.crop_size["width"]), int(image_processor.crop_size["height"])
    wide, high = _resized(dict(image_processor.size), width, height)
    left, top = (wide - columns) // 2, (high - rows) // 2
    x, y = width / wide, height / high
    return View(left * x, top * y, columns * x, rows * y, columns, rows)


def _resized(size: dict[str, Any], width: int, height: int) -> tuple[int, int]:
    """Width and height after the processor's resize: the shorter side given, or both."""
    shortest = size.get("shortest_edge")
    if not shortest:
        return int(size.get("width") or width), int(size.get("height") or height)
    short, long = min(width, height), max(width, height)
    stretched = int(shortest * long / short)
    return (stretched, shortest) if width > height else (shortest, stretched)


def final_answer(text: str) -> str:
    """The text behind the thoughts, and of it what is marked as the answer where something is.

    Thoughts that never end hold no answer: "".
    """
    begin, end = _THOUGHTS
    _, closed, said = text.rpartition(end)
    if not closed and said.lstrip().startswith(begin):
        return ""
    return _MARKS.sub("", " ".join(_MARKED.findall(said)) or said).strip()
