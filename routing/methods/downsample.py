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
from math import ceil, floor, sqrt

from routing.errors import ScheduleError
from routing.grids import ImageGrids, Size
from routing.methods.method import Method, Request
from routing.schedule import Schedule

_STEP, _STEPS = 0.93, 96  # scales that are looked at first: the last is 0.001
_ENLARGED = 8.0  # a scale that shows whether an image's size matters at all


def smaller(size: Size, ratio: float, grids: Callable[[Size], ImageGrids], patch: int) -> Size:
    """Width and height to which an image of `size` is shrunk for a reduction ratio in [0, 1).

    grids: of an image of any size, what the processor makes of it. patch: pixels of a patch's side. Of sizes
    that are equally near to the amount it is the largest.
    """
    if ratio <= 0:
        return size
    scales = [_STEP**step for step in range(_STEPS)]
    counts = [grids(_scaled(size, scale)).visual for scale in scales]
    if {*counts, grids(_scaled(size, _ENLARGED)).visual} == {counts[0]}:
        seen = patch**2 * sum(frames * rows * columns for frames, rows, columns in grids(size).patches)
        return _scaled(size, sqrt((1 - ratio) * min(1.0, seen / (size[0] * size[1]))))
    wanted, longest = (1 - ratio) * counts[0], max(size)
    near = min(zip(scales, counts, strict=True), key=lambda pair: abs(pair[1] - wanted))[0]
    sides = range(max(1, floor(longest * near * _STEP)), min(longest, ceil(longest * near / _STEP)) + 1)
    shapes = [_scaled(size, side / longest) for side in reversed(sides)]
    return min(shapes, key=lambda shape: abs(grids(shape).visual - wanted))


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
