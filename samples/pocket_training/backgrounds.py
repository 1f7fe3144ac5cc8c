"""Synthetic backgrounds: gradients, soft noise, stripes, chequers and discs.

Knows nothing of objects or questions. Every background is an array (320, 320, 3) of uint8, made from one
NumPy generator, so a seed names a whole set.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 320
Pixels = NDArray[np.uint8]
Plane = NDArray[np.float32]
Mixer = Callable[[np.random.Generator, Plane], Plane]


def make_backgrounds(seed: int, count: int) -> list[Pixels]:
    """`count` backgrounds of size (320, 320, 3); kinds take turns."""
    generator = np.random.default_rng(seed)
    return [_background(generator, KINDS[index % len(KINDS)]) for index in range(count)]


def _background(generator: np.random.Generator, kind: Mixer) -> Pixels:
    colours = generator.uniform(20, 240, (2, 3)).astype(np.float32)
    plane = kind(generator, colours)
    grain = generator.normal(0, generator.uniform(0, 12), (SIDE, SIDE, 1))
    return np.clip(plane + grain, 0, 255).astype(np.uint8)


def _axes() -> tuple[Plane, Plane]:
    rows, columns = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) / SIDE
    return rows, columns


def _ramp(generator: np.random.Generator) -> Plane:
    """Values 0..1 (SIDE, SIDE, 1) rising along a random direction."""
    rows, columns = _axes()
    angle = generator.uniform(0, 2 * math.pi)
    ramp = (columns - 0.5) * math.cos(angle) + (rows - 0.5) * math.sin(angle) + 0.5
    return np.asarray(np.clip(ramp, 0, 1)[..., None], dtype=np.float32)


def _mix(colours: Plane, weight: Plane) -> Plane:
    return np.asarray(colours[0] * (1 - weight) + colours[1] * weight, dtype=np.float32)


def _gradient(generator: np.random.Generator, colours: Plane) -> Plane:
    return _mix(colours, _ramp(generator))


def _noise(generator: np.random.Generator, colours: Plane) -> Plane:
    cells = int(generator.integers(3, 12))
    coarse = Image.fromarray(generator.integers(0, 255, (cells, cells, 3)).astype(np.uint8))
    smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(np.float32)
    return np.asarray(smooth * 0.6 + colours[0] * 0.4, dtype=np.float32)


def _stripes(generator: np.random.Generator, colours: Plane) -> Plane:
    period = generator.uniform(6, 30)
    mask = (np.sin(_ramp(generator) * SIDE / period * math.pi) > 0).astype(np.float32)
    return _mix(colours, mask * generator.uniform(0.2, 1))


def _chequers(generator: np.random.Generator, colours: Plane) -> Plane:
    rows, columns = _axes()
    period = int(generator.integers(10, 40))
    mask = ((columns * SIDE // period) + (rows * SIDE // period)) % 2
    return _mix(colours, mask[..., None] * generator.uniform(0.2, 0.8))


def _discs(generator: np.random.Generator, colours: Plane) -> Plane:
    rows, columns = _axes()
    plane = _gradient(generator, colours)
    for _ in range(int(generator.integers(5, 20))):
        column, row, radius = generator.uniform(0, 1), generator.uniform(0, 1), generator.uniform(0.02, 0.15)
        inside = ((columns - column) ** 2 + (rows - row) ** 2 < radius**2)[..., None]
        plane = np.where(inside, plane * 0.4 + generator.uniform(20, 240, 3) * 0.6, plane).astype(np.float32)
    return plane


KINDS: tuple[Mixer, ...] = (_gradient, _noise, _stripes, _chequers, _discs)
