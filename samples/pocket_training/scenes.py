"""Scenes: 2 to 7 emoji on a synthetic background, with the exact box of each.

Knows the font, the pictures and where things stand; knows nothing of questions, models or tensors. A scene
is a pure function of its seed and its split. The splits share neither seeds nor backgrounds.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from samples.pocket_training.backgrounds import SIDE, Pixels, make_backgrounds

GLYPHS = {
    "cup": "☕", "car": "🚗", "dog": "🐶", "cat": "🐱", "ball": "⚽", "clock": "⏰",
    "key": "🔑", "umbrella": "☔", "book": "📕", "apple": "🍎", "banana": "🍌", "tree": "🌳",
    "house": "🏠", "star": "⭐", "heart": "❤", "fish": "🐟", "bird": "🐦", "flower": "🌻",
    "pizza": "🍕", "boat": "⛵", "train": "🚂", "plane": "✈", "bike": "🚲", "chair": "🪑",
    "phone": "📱", "camera": "📷", "guitar": "🎸", "hat": "🎩", "shoe": "👟", "bell": "🔔",
    "gift": "🎁", "cake": "🎂",
}  # fmt: skip
NAMES = tuple(GLYPHS)
IMAGE_SIZE = 224
PATCH = 14
GRID = IMAGE_SIZE // PATCH
ANGLES = (-15, -8, 0, 8, 15)
SIZES = tuple(range(24, 81, 2))
FONT_NAME = "NotoColorEmoji.ttf"
FONT_PIXELS = 109
"""The only size the bitmap font holds."""
MAX_OVERLAP = 0.08
"""Largest shared area of two things, as a fraction of the smaller box."""
TWIN_RATIO = 1.35
"""Two things of one kind differ in size by more than this factor: `smaller` and `larger` are plain."""

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Split:
    """A range of scene seeds and a set of backgrounds of its own."""

    name: str
    first_seed: int
    background_seed: int
    backgrounds: int


TRAINING = Split("training", 0, 7, 240)
DEVELOPMENT = Split("development", 1_000_000_000, 1007, 40)
HELD_OUT = Split("held-out", 2_000_000_000, 2007, 80)
EXAMPLES = Split("examples", 3_000_000_000, 3007, 40)


@dataclass(frozen=True)
class Thing:
    """One object: index of its kind in NAMES, longer side in pixels, box (x1, y1, x2, y2) in pixels."""

    kind: int
    size: int
    box: Box

    @property
    def name(self) -> str:
        return NAMES[self.kind]

    @property
    def centre_x(self) -> float:
        return (self.box[0] + self.box[2]) / 2


@dataclass(frozen=True)
class Scene:
    """pixels (224, 224, 3) uint8; owner (224, 224) int8: index of the thing at a pixel, -1 for none."""

    seed: int
    pixels: Pixels
    things: tuple[Thing, ...]
    owner: NDArray[np.int8]


class FontMissingError(Exception):
    """The colour-emoji font can't be read."""


def find_font(path: Path | None = None) -> Path:
    """The colour-emoji font: the path given, else the first one below the usual font folders."""
    if path is not None:
        if path.is_file():
            return path
        raise FontMissingError(f"There is no font file at {path}.")
    for folder in (
        Path("/usr/share/fonts"),
        Path("/usr/local/share/fonts"),
        Path.home() / ".local/share/fonts",
    ):
        for found in sorted(folder.rglob(FONT_NAME)):
            return found
    raise FontMissingError(
        f"No {FONT_NAME} was found: install fonts-noto-color-emoji or name the file with --font."
    )


class Painter:
    """Paints the scenes of one split. Holds the font, the backgrounds and a cache of glyph pictures."""

    def __init__(self, split: Split, font: Path | None = None) -> None:
        self._first_seed = split.first_seed
        self._font = ImageFont.truetype(str(find_font(font)), FONT_PIXELS)
        self._backgrounds = make_backgrounds(split.background_seed, split.backgrounds)
        self._glyph = cache(self._draw_glyph)
        self._sprite = cache(self._draw_sprite)

    def paint(self, index: int, names: Sequence[str] = ()) -> Scene:
        """Scene number `index`: 2 to 7 things at random, or those named (fewer where they don't fit)."""
        seed = self._first_seed + index
        chance = random.Random(seed)
        canvas = self._backdrop(chance)
        owner = np.full((IMAGE_SIZE, IMAGE_SIZE), -1, np.int8)
        things: list[Thing] = []
        for kind in [NAMES.index(name) for name in names] or _kinds(chance, chance.randint(2, 7)):
            self._add(chance, kind, canvas, owner, things)
        lit = canvas * chance.uniform(0.8, 1.15) + chance.uniform(-12, 12)
        return Scene(seed, np.clip(lit, 0, 255).astype(np.uint8), tuple(things), owner)

    def _backdrop(self, chance: random.Random) -> NDArray[np.float32]:
        """A crop of a background, mirrored and tinted at random: (224, 224, 3) float32."""
        whole = chance.choice(self._backgrounds)
        top, left = chance.randint(0, SIDE - IMAGE_SIZE), chance.randint(0, SIDE - IMAGE_SIZE)
        crop = whole[top : top + IMAGE_SIZE, left : left + IMAGE_SIZE]
        crop = crop[:: chance.choice((1, -1)), :: chance.choice((1, -1))]
        tint = np.array([chance.uniform(0.7, 1.1) for _ in range(3)], np.float32)
        return crop.astype(np.float32) * tint

    def _add(
        self,
        chance: random.Random,
        kind: int,
        canvas: NDArray[np.float32],
        owner: NDArray[np.int8],
        things: list[Thing],
    ) -> None:
        """Paste one thing at a free place, in place; after 30 failed tries leave it out."""
        for _ in range(30):
            size, angle = chance.choice(SIZES), chance.choice(ANGLES)
            sprite = self._sprite(kind, angle, size)
            height, width = sprite.shape[:2]
            left, top = chance.randint(0, IMAGE_SIZE - width), chance.randint(0, IMAGE_SIZE - height)
            thing = Thing(kind, size, (left, top, left + width, top + height))
            if all(_compatible(thing, other) for other in things):
                _paste(sprite, thing.box, canvas)
                seen = owner[top : top + height, left : left + width]
                seen[sprite[..., 3] > 127] = len(things)
                things.append(thing)
                return

    def _draw_glyph(self, kind: int, angle: int) -> Image.Image:
        """The emoji turned by `angle` degrees, cropped to what is visible."""
        image = Image.new("RGBA", (180, 180), (0, 0, 0, 0))
        ImageDraw.Draw(image).text((20, 20), GLYPHS[NAMES[kind]], font=self._font, embedded_color=True)
        turned = image.rotate(angle, resample=Image.Resampling.BICUBIC, expand=True)
        visible = np.asarray(turned)[..., 3] > 40
        rows, columns = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
        return turned.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))

    def _draw_sprite(self, kind: int, angle: int, size: int) -> Pixels:
        """RGBA (h, w, 4) with the longer side `size` pixels."""
        glyph = self._glyph(kind, angle)
        scale = size / max(glyph.size)
        width, height = (max(4, round(side * scale)) for side in glyph.size)
        return np.asarray(glyph.resize((width, height), Image.Resampling.LANCZOS))


def _kinds(chance: random.Random, count: int) -> list[int]:
    """Kinds of the things; in half of the scenes with three or more, two are of one kind."""
    kinds = chance.sample(range(len(NAMES)), count)
    if count >= 3 and chance.random() < 0.5:
        kinds[1] = kinds[0]
    return kinds


def _compatible(one: Thing, other: Thing) -> bool:
    twins_differ = max(one.size, other.size) > TWIN_RATIO * min(one.size, other.size)
    return overlap(one.box, other.box) <= MAX_OVERLAP * min(_area(one.box), _area(other.box)) and (
        one.kind != other.kind or twins_differ
    )


def overlap(one: Box, other: Box) -> int:
    """Shared area of two boxes in pixels."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0, width) * max(0, height)


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _paste(sprite: Pixels, box: Box, canvas: NDArray[np.float32]) -> None:
    left, top, right, bottom = box
    alpha = sprite[..., 3:].astype(np.float32) / 255
    region = canvas[top:bottom, left:right]
    region += (sprite[..., :3] - region) * alpha
