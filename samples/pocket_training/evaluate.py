"""Ask a Hugging Face model the questions of a manifest, in left-padded greedy batches, and score the answers.

Takes any model and processor that transformers loads, and any context manager to run them under, such as
`routing.route(model, schedule)`. Knows nothing of schedules, training or files of weights.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from samples.pocket_training.questions import BOX_KINDS

Box = tuple[float, float, float, float]
Context = Callable[[], AbstractContextManager[Any]]
BOX_TOKENS, WORD_TOKENS = 11, 3
BOX_PATTERN = re.compile(r"\s*\[(\d\.\d\d),(\d\.\d\d),(\d\.\d\d),(\d\.\d\d)\]\s*")


@dataclass(frozen=True)
class Item:
    """One question: kind as in questions.KINDS, the picture's path, the box in its pixels or None."""

    id: str
    kind: str
    image: Path
    question: str
    answer: str
    box: Box | None


@dataclass(frozen=True)
class Result:
    """The model's words; `right` means IoU >= 0.5 for boxes, else equality; `iou` is None without a box."""

    item: Item
    answer: str
    right: bool
    iou: float | None


def read_manifest(path: Path) -> list[Item]:
    """Items of a manifest.jsonl; pictures are relative to its folder."""
    lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [
        Item(
            line["id"], line["kind"], path.parent / line["image"], line["question"], line["answer"],
            tuple(line["box"]) if line["box"] else None,
        )
        for line in lines
    ]  # fmt: skip


def evaluate(
    model: Any, processor: Any, items: Sequence[Item], batch_size: int = 32, context: Context = nullcontext
) -> list[Result]:
    """Greedy answers to all items, in their order; `context()` is entered around each batch's generate()."""
    places = sorted(range(len(items)), key=lambda place: (items[place].kind in BOX_KINDS, items[place].kind))
    results: dict[int, Result] = {}
    for start in range(0, len(places), batch_size):
        chosen = places[start : start + batch_size]
        batch = [items[place] for place in chosen]
        answers = answer(model, processor, batch, context)
        results |= {place: score(items[place], text) for place, text in zip(chosen, answers, strict=True)}
    return [results[place] for place in range(len(items))]


@torch.inference_mode()
def answer(model: Any, processor: Any, items: Sequence[Item], context: Context = nullcontext) -> list[str]:
    """Answers of one batch."""
    prompts = [prompt(processor, item.question) for item in items]
    pictures = [[_open(item.image)] for item in items]
    inputs = processor(text=prompts, images=pictures, padding=True, return_tensors="pt")
    inputs = inputs.to(device=model.device, dtype=model.dtype)
    longest = BOX_TOKENS if any(item.kind in BOX_KINDS for item in items) else WORD_TOKENS
    with context():
        written = model.generate(**inputs, max_new_tokens=longest, do_sample=False)
    texts = processor.batch_decode(written[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in texts]


def prompt(processor: Any, question: str) -> str:
    """The chat prompt of one picture and one question."""
    content = [{"type": "image"}, {"type": "text", "text": question}]
    text: str = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    return text


def _open(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def score(item: Item, text: str) -> Result:
    """Compare one answer with the item's: boxes by intersection over union in pixels, words by equality."""
    if item.box is None:
        return Result(item, text, text.strip() == item.answer, None)
    with Image.open(item.image) as image:
        width, height = image.size
    shared = intersection_over_union(read_box(text, width, height), item.box)
    return Result(item, text, shared >= 0.5, shared)


def read_box(text: str, width: int, height: int) -> Box | None:
    """The box of an answer "[x1,y1,x2,y2]" in pixels, or None where the answer is anything else."""
    match = BOX_PATTERN.fullmatch(text)
    if match is None:
        return None
    x1, y1, x2, y2 = (float(number) for number in match.groups())
    return (x1 * width, y1 * height, x2 * width, y2 * height)


def intersection_over_union(one: Box | None, other: Box) -> float:
    """0..1; 0 for no box and for a box without area."""
    if one is None or one[2] <= one[0] or one[3] <= one[1]:
        return 0.0
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    union = (
        (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - width * height
    )
    return width * height / union


def wilson(right: int, count: int) -> tuple[float, float]:
    """95% Wilson score interval of a proportion."""
    z, share = 1.959964, right / count
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (centre - spread) / (1 + z * z / count), (centre + spread) / (1 + z * z / count)


def summary(results: Iterable[Result]) -> dict[str, dict[str, float]]:
    """Per kind: n, the share right, its interval, and the mean IoU of boxes."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.item.kind, []).append(result)
    return {kind: _line(group) for kind, group in sorted(groups.items())}


def _line(group: list[Result]) -> dict[str, float]:
    right = sum(result.right for result in group)
    low, high = wilson(right, len(group))
    line = {"n": len(group), "right": right / len(group), "low": low, "high": high}
    shared = [result.iou for result in group if result.iou is not None]
    return line | ({"mean_iou": sum(shared) / len(shared)} if shared else {})
