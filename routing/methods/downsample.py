"""Downsample: the image made smaller before the processor, the control that a method has to beat.

VTC-Bench (https://arxiv.org/abs/2510.07143) found that shrinking the image beats many methods on common
benchmarks. Nothing is hooked and nothing is scheduled: the model answers a smaller image as it answers any,
and its vision tower has less to do too. The smaller image keeps its shape, and has as near to (1 - ratio) of
the original's visual tokens as whole patches allow.

A processor that makes every size the same (CLIP towers) gives a smaller image as many tokens: only detail is
lost and nothing is saved. There the smaller image has (1 - ratio) of the pixels that the tower can see of the
original, which are no more than it has itself; where the tower sees all, its sides shrink by sqrt(1 - ratio).
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

from routing.errors import ScheduleError
from routing.grids import ImageGrids, Size
from routing.methods.method import Method, Request
from routing.schedule import Schedule

_STEP, _STEPS = 0.93, 96  # scales that are looked at before the exact one
_ENLARGED = 8  # a scale that shows whether an image's size matters at all
_ALIKE = 1.02  # a size is whole pixels, so that its shape is not quite the image's: tokens that come of this


def smaller(size: Size, ratio: float, grids: Callable[[Size], ImageGrids], patch: int) -> Size:
    """Width and height to which an image of `size` is shrunk for a reduction ratio in [0, 1).

    grids: of an image of any size, what the processor makes of it. patch: pixels of a patch's side, below
    which no side shrinks. Where the amount can't be had it is the largest size with the fewest tokens.
    """
    longest, least = max(size), patch * max(size) / min(size)
    if ratio <= 0:
        return size

    def count(side: int) -> int:
        return grids(_scaled(size, side / longest)).visual

    shorter = (round(longest * _STEP**step) for step in range(1, _STEPS))
    sides = [longest, *(side for side in shorter if side >= least)]
    counts = [count(side) for side in sides]
    if max(*counts, count(_ENLARGED * longest)) <= _ALIKE * min(counts):
        seen = patch**2 * sum(frames * rows * columns for frames, rows, columns in grids(size).patches)
        return _scaled(size, sqrt((1 - ratio) * min(1.0, seen / (size[0] * size[1]))))
    wanted = max((1 - ratio) * counts[0], min(counts))
    enough = next(place for place, found in enumerate(counts) if found <= _ALIKE * wanted)
    if enough == 0:
        return size
    largest = max(0, counts.index(counts[enough - 1]) - 1)  # before it, sizes have still more tokens
    around = range(sides[min(enough + 1, len(sides) - 1)], sides[largest] + 1)
    best = min(reversed(around), key=lambda side: abs(count(side) - wanted))
    return _scaled(size, best / longest)


def _scaled(size: Size, scale: float) -> Size:
    width, height = size
    return max(1, round(width * scale)), max(1, round(height * scale))


def _solve(_request: Request) -> Schedule:
    raise ScheduleError("downsample schedules nothing: it makes the image smaller before the model sees it")


METHOD = Method(
    name="downsample",
    title="Downsample",
    paper="https://arxiv.org/abs/2510.07143",
    year=2025,
    summary="a smaller image, made before the processor: the control that routes nothing",
    scored="none",
    published={},
    solver=_solve,
    resizes=True,
)
