"""Boxes that a model writes, in pixels of the original image.

Every family writes them its own way: its file in routing/families says in which units and what it sees.
A model that thinks aloud writes its thoughts before `</think>`, and some wrap the answer itself: GLM-4.1V in
<answer> tags and around what is asked for <|begin_of_box|> … <|end_of_box|>. A box or a yes among the
thoughts is no answer. Knows answers as text and sizes as integers; no model and no file. Text that is no box
is no error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from routing.families import family_of
from routing.families.family import Convention, Grounding, whole_view
from routing.grids import Box, View

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


def convention_of(family: str) -> Convention | None:
    """How a family writes boxes; None where it has no published way, or none that we know."""
    grounding = family_of(family).grounding
    return grounding.boxes if isinstance(grounding, Grounding) else None


def decode_boxes(answer: str, family: str, view: View, size: tuple[int, int]) -> list[Box]:
    """Every well-formed box in what is meant as the answer, in order, clipped to what the model saw.

    Four numbers are no box that are inverted, empty, or have their centre out of the family's range: a model
    that writes pixels where fractions are due has not written a box, one that reaches a pixel too far has.
    view: what was seen of the original image, which is `size` (w, h) large.
    """
    convention = convention_of(family)
    assert convention is not None, family
    said = final_answer(answer)
    written = [match for form in _FORMS for match in form.finditer(said)]
    found = []
    for match in sorted(written, key=lambda match: match.start()):
        numbers = tuple(float(number) for number in match.groups() if number is not None)
        found.append(_box(numbers, convention, view, size))
    return [box for box in found if box is not None]


def _box(numbers: tuple[float, ...], convention: Convention, view: View, size: tuple[int, int]) -> Box | None:
    """Four numbers in the order in which they were written, as a box in pixels of the original image.

    Its part inside the image, rounded; None when there is none, and where four numbers are no box.
    """
    y1, x1, y2, x2 = numbers if convention.y_first else (numbers[1], numbers[0], numbers[3], numbers[2])
    across, down = convention.across(view)
    if not (x1 < x2 and y1 < y2 and 0 <= x1 + x2 <= 2 * across and 0 <= y1 + y2 <= 2 * down):
        return None
    left, right = (view.left + min(max(x / across, 0.0), 1.0) * view.width for x in (x1, x2))
    top, bottom = (view.top + min(max(y / down, 0.0), 1.0) * view.height for y in (y1, y2))
    width, height = size
    x1, x2 = (round(min(max(x, 0.0), width), _DECIMALS) for x in (left, right))
    y1, y2 = (round(min(max(y, 0.0), height), _DECIMALS) for y in (top, bottom))
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 and math.isfinite(x1 + y1 + x2 + y2) else None


def view_of(family: str, image_processor: Any, inputs: Mapping[str, Any], size: tuple[int, int]) -> View:
    """What the model saw of an image of `size` (w, h), read from its image processor and its outputs.

    A processor that reports a patch grid (Qwen, GLM) resized the whole image to that grid; one that reports
    sizes made tiles or cells of the whole image. What any other one does is in the family's file.
    """
    width, height = size
    if "image_grid_thw" in inputs:
        _, rows, columns = (int(n) for n in inputs["image_grid_thw"][0].tolist())
        patch = int(image_processor.patch_size)
        return View(0.0, 0.0, width, height, columns * patch, rows * patch)
    if "image_sizes" in inputs:
        return whole_view(image_processor, size)
    return family_of(family).view(image_processor, size)


def final_answer(text: str) -> str:
    """The text behind the thoughts, and of it what is marked as the answer where something is.

    Thoughts that never end hold no answer: "".
    """
    begin, end = _THOUGHTS
    _, closed, said = text.rpartition(end)
    if not closed and said.lstrip().startswith(begin):
        return ""
    return _MARKS.sub("", " ".join(_MARKED.findall(said)) or said).strip()
