"""What an answer says: its boxes in pixels of the original image, and whether they and its words are right.

Every family writes boxes its own way: its file in routing/families says in which units and what it sees. A
model that thinks aloud writes its thoughts before `</think>`, and some wrap the answer itself.

A truth has a kind; JUDGES says how that kind is judged. What a judge reads in an answer is the verdict's
`said`: scores that need more than right and wrong (precision, the share of yes) are made of it. Boxes are
judged as stated in the README: the first box of the answer only, in pixels of the original image. Knows
answers as text and boxes as numbers; not models, benchmarks, images or files.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reroute_cli.data.items import Truth
from routing.families import family_of
from routing.families.family import Convention, Grounding, whole_view
from routing.grids import Box, View

HIT = 0.5  # the IoU from which a box counts as found, as in RefCOCO (Acc@0.5)
_AROUND = " \t\r\n.,;:!?\"'`“”‘’()[]*"
_YES_NO = ("yes", "no")
_MME_PREFIX = 4  # characters in which MME looks for yes and no
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_OPEN, _CLOSE = r"[\s\"'*(\[]*", r"[\s\"'*.:)\]]*"
_LETTER_ALONE = re.compile(rf"{_OPEN}([A-Za-z]){_CLOSE}")
_LETTER_FIRST = re.compile(rf"{_OPEN}([A-Z])[\"'*]*[.:)\]]+[\"'*]*\s")
_LETTER_NAMED = re.compile(
    rf"(?i:\b(?:answer|option|choice)\b(?:\s+is)?\s*:?\s*(?:option\b)?){_OPEN}([A-Z])"
    r"(?=[\"'*.,;:)\]]|\s*(?:\n|$))"
)
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
class BoxScore:
    """How well a box fits the true one. iou: 0 without a box. centre: its middle lies in the true one."""

    iou: float
    centre: bool

    @property
    def hit(self) -> bool:
        """IoU of at least 0.5."""
        return self.iou >= HIT


@dataclass(frozen=True, slots=True)
class Judgement:
    """One judged answer. iou, centre: of boxes only.

    said: what the judge read in the answer, in the truth's own terms; None where it says nothing of the kind.
    """

    right: bool
    iou: float | None = None
    centre: bool | None = None
    said: str | None = None


Judge = Callable[[str, Sequence[Box], Truth], Judgement]


def score_box(boxes: Sequence[Box], truth: Box) -> BoxScore:
    """The first of `boxes` against the true one; none at all is a miss."""
    if not boxes:
        return BoxScore(0.0, centre=False)
    x1, y1, x2, y2 = boxes[0]
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return BoxScore(iou(boxes[0], truth), truth[0] <= x <= truth[2] and truth[1] <= y <= truth[3])


def iou(one: Box, other: Box) -> float:
    """Intersection over union of two boxes, 0 to 1; 0 where both are empty."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    both = max(wide, 0.0) * max(high, 0.0)
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - both
    return both / union if union > 0 else 0.0


def words(answer: str) -> str:
    """An answer as it is compared: lower case, single spaces, no punctuation or quotes around it."""
    return re.sub(r"\s+", " ", answer).strip(_AROUND).casefold()


def judge(answer: str, boxes: Sequence[Box], truth: Truth) -> Judgement:
    """Whether an answer, with the boxes that were decoded from it, is right."""
    return JUDGES[truth.kind](final_answer(answer), boxes, truth)


def bare_words(text: str) -> str:
    """Lower case, single spaces, no punctuation anywhere: how GQA's exact match compares."""
    return " ".join(text.casefold().translate(_NO_PUNCTUATION).split())


def judge_box(_answer: str, boxes: Sequence[Box], truth: Truth) -> Judgement:
    """The first box only: IoU of at least 0.5 is right."""
    assert truth.box is not None
    found = score_box(boxes, truth.box)
    return Judgement(found.hit, found.iou, found.centre)


def judge_words(answer: str, _boxes: Sequence[Box], truth: Truth) -> Judgement:
    """Equal to one of the true wordings but for case, spaces and punctuation around it."""
    said = words(answer)
    return Judgement(said in {words(true) for true in truth.answers}, said=said or None)


def judge_exact(answer: str, _boxes: Sequence[Box], truth: Truth) -> Judgement:
    """Equal to one of the true wordings but for case, spaces and all punctuation."""
    said = bare_words(answer)
    return Judgement(said in {bare_words(true) for true in truth.answers}, said=said or None)


def judge_yes_no(answer: str, _boxes: Sequence[Box], truth: Truth) -> Judgement:
    """Exactly yes or no but for case, spaces and punctuation around it; anything else says neither."""
    said = words(answer)
    return _one_of(said if said in _YES_NO else None, truth)


def judge_mme(answer: str, _boxes: Sequence[Box], truth: Truth) -> Judgement:
    """MME's own rule: yes, else no, anywhere in the first four characters; anything else says neither.

    eval_tool/calculation.py of github.com/BradyFU/Awesome-Multimodal-Large-Language-Models, release of MME.
    """
    start = answer.strip().casefold()[:_MME_PREFIX]
    return _one_of(next((word for word in _YES_NO if word in start), None), truth)


def judge_choice(answer: str, _boxes: Sequence[Box], truth: Truth) -> Judgement:
    """The letter of an option; see chosen_letter."""
    return _one_of(chosen_letter(answer, truth.options), truth)


def chosen_letter(answer: str, options: Sequence[tuple[str, str]]) -> str | None:
    """The option that an answer names, by the first rule that applies; None where it names none of them.

    1. A letter alone, bare or in brackets, quotes or stars: "B", "b.", "(B)", "**B**".
    2. A capital letter with a point, colon or bracket in front of other words: "B. a dog", "(B) a dog".
    3. A capital letter named as the answer: "The answer is B.", "Answer: (B)", "Option B", where all that are
       so named are the same.
    4. Exactly the text of one option, but for case, spaces and punctuation around it.
    """
    letters = {letter for letter, _ in options}
    for rule in (_LETTER_ALONE.fullmatch(answer), _LETTER_FIRST.match(answer)):
        if rule:
            letter = rule.group(1).upper()
            return letter if letter in letters else None
    named = {match.group(1) for match in _LETTER_NAMED.finditer(answer)}
    if named:
        return named.pop() if len(named) == 1 and named <= letters else None
    same = [letter for letter, text in options if words(text) == words(answer)]
    return same[0] if len(same) == 1 else None


def _one_of(said: str | None, truth: Truth) -> Judgement:
    return Judgement(said is not None and said in truth.answers, said=said)


JUDGES: dict[str, Judge] = {
    "box": judge_box,
    "words": judge_words,
    "exact": judge_exact,
    "yes_no": judge_yes_no,
    "mme": judge_mme,
    "choice": judge_choice,
}


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
