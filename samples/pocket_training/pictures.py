"""Writes the sample pictures and the held-out set, each with its manifest.jsonl.

    python -m samples.pocket_training.pictures [--font FILE]

Both are pure functions of the font file and this program. Knows scenes and questions; knows nothing of
models.
"""

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from samples.pocket_training.questions import BOX_KINDS, Question, all_questions, pick
from samples.pocket_training.scenes import EXAMPLES, HELD_OUT, FontMissingError, Painter, Scene

FOLDER = Path(__file__).resolve().parent.parent
HELD_OUT_SCENES = 512
LIMITS = {"where": 2, "size": 1, "side": 1, "relation": 2, "count": 1, "region": 1, "beside": 1}
WEBP_QUALITY = 80


@dataclass(frozen=True)
class Example:
    """A sample picture: what is on it and what is asked about it."""

    name: str
    things: tuple[str, ...]
    questions: tuple[str, ...]


SAMPLES = (
    Example(
        "desk",
        ("cup", "book", "phone", "clock", "key"),
        ("where is the cup?", "is there a cup in the image?"),
    ),
    Example("street", ("house", "car", "bike", "tree"), ("where is the car?", "how many objects are there?")),
    Example(
        "pets", ("dog", "cat", "ball"), ("is there a dog in the image?", "is there a train in the image?")
    ),
    Example(
        "garden", ("tree", "flower", "bird", "apple"), ("how many objects are there?", "where is the bird?")
    ),
    Example(
        "kitchen", ("cup", "cup", "cake", "banana"), ("where is the smaller cup?", "where is the larger cup?")
    ),
    Example(
        "harbour", ("boat", "fish", "plane"), ("where is the boat?", "is there an umbrella in the image?")
    ),
    Example(
        "party", ("gift", "gift", "cake", "heart"), ("where is the gift on the left?", "where is the cake?")
    ),
    Example(
        "station", ("car", "car", "train"), ("where is the car left of the train?", "where is the train?")
    ),
    Example("wardrobe", ("hat", "shoe", "umbrella"), ("what is left of the shoe?", "where is the hat?")),
    Example("music", ("guitar", "bell", "phone"), ("where is the guitar?", "what is right of the bell?")),
    Example(
        "sky",
        ("plane", "star", "star", "bird"),
        ("where is the star on the right?", "how many objects are there?"),
    ),
    Example(
        "picnic", ("pizza", "apple", "banana", "ball", "dog"), ("where is the pizza?", "where is the apple?")
    ),
    Example(
        "library", ("book", "book", "chair", "clock"), ("where is the larger book?", "where is the clock?")
    ),
    Example(
        "beach",
        ("umbrella", "ball", "fish", "boat"),
        ("where is the umbrella?", "is there a cake in the image?"),
    ),
)


def example_scene(painter: Painter, example: Example, first: int) -> tuple[Scene, list[Question]]:
    """The first scene from number `first` on in which every question of the example makes sense."""
    for index in range(first, first + 10_000):
        scene = painter.paint(index, example.things)
        if len(scene.things) == len(example.things):
            asked = {question.text: question for question in all_questions(scene, random.Random(index))}
            if all(text in asked for text in example.questions):
                return scene, [asked[text] for text in example.questions] + _region(asked)
    raise ValueError(f"No scene fits the example {example.name!r}.")


def _region(asked: dict[str, Question]) -> list[Question]:
    """One question of the kind `region`: its wording holds coordinates, so it can't be written down above."""
    return [question for question in asked.values() if question.kind == "region"][:1]


def write_samples(folder: Path, font: Path | None) -> None:
    """The sample pictures as PNG, and their manifest."""
    painter, lines = Painter(EXAMPLES, font), list[str]()
    for number, example in enumerate(SAMPLES):
        scene, asked = example_scene(painter, example, first=10_000 * number)
        Image.fromarray(scene.pixels).save(folder / f"{example.name}.png", optimize=True)
        lines += _lines(scene, asked, example.name, f"{example.name}.png")
    _write_lines(folder / "manifest.jsonl", lines)


def write_held_out(folder: Path, font: Path | None, scenes: int = HELD_OUT_SCENES) -> None:
    """`scenes` pictures of the held-out split as small WebP files, and their manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    painter, lines = Painter(HELD_OUT, font), list[str]()
    for index in range(scenes):
        scene, name = painter.paint(index), f"{index:04d}"
        Image.fromarray(scene.pixels).save(folder / f"{name}.webp", quality=WEBP_QUALITY, method=6)
        lines += _lines(scene, list(held_out_questions(scene, random.Random(index))), name, f"{name}.webp")
    _write_lines(folder / "manifest.jsonl", lines)


def held_out_questions(scene: Scene, chance: random.Random) -> Iterator[Question]:
    """At most LIMITS questions of each kind, and one `yes` and one `no` of the kind `exists`."""
    asked = all_questions(scene, chance)
    yield from pick(asked, LIMITS)
    for answer in ("yes", "no"):
        yield next(question for question in asked if question.answer == answer)


def _lines(scene: Scene, asked: list[Question], name: str, image: str) -> list[str]:
    return [
        json.dumps(
            {
                "id": f"{name}-{number}",
                "kind": question.kind,
                "image": image,
                "question": question.text,
                "answer": question.answer,
                "box": scene.things[question.targets[0]].box if question.kind in BOX_KINDS else None,
            }
        )
        for number, question in enumerate(asked)
    ]


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Write the sample pictures and the held-out set.")
    parser.add_argument("--font", type=Path, help="NotoColorEmoji.ttf, if not in a usual font folder")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to (default: samples/)")
    options = parser.parse_args()
    try:
        write_samples(options.out, options.font)
        write_held_out(options.out / "heldout", options.font)
    except FontMissingError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
