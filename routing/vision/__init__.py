"""Reduction at the vision tower: hooks on an unmodified model, and what they hand to the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from routing.errors import ScheduleError, UnsupportedModelError
from routing.families import family_of, no_vision_stage
from routing.families.encoders import MergedStage
from routing.families.family import Missing
from routing.hooks import Hooks
from routing.methods import SELECTIONS
from routing.schedule import VisionStage
from routing.vision.collector import Encoded, VisionCollector
from routing.vision.merged import MergedTower
from routing.vision.patches import PatchTower
from routing.vision.replay import EncodedImage, Features, encode_once, hand_over
from routing.vision.tiles import TiledTower

__all__ = ["Encoded", "EncodedImage", "Features", "VisionCollector", "attach", "encode_once"]

SCORERS = ("cls", "column_mean")


def attach(
    base: Any, family: str, stage: VisionStage, count: Callable[[int], int], hooks: Hooks
) -> VisionCollector:
    """Hook the vision tower of the base model; closing `hooks` leaves it as it was.

    family: a key of FAMILIES. stage: names a selection that takes place at the tower. count: visual tokens of
    an image -> how many of them to keep (1 .. V). With keep_ratio 1.0 nothing is hooked. Returns what the
    engine asks for the kept tokens, once the images have been encoded: in generate() that is before the base
    model runs, in a plain forward it is within.
    Raises UnsupportedModelError where this stage cannot work, ScheduleError for an unknown scorer.
    """
    if stage.scorer not in SCORERS:
        raise ScheduleError(f"the vision stage is scored by {' or '.join(SCORERS)}, got {stage.scorer!r}")
    place = family_of(family).vision_stage
    collector = VisionCollector(stage, SELECTIONS[stage.selection], count)
    if isinstance(place, Missing):
        raise UnsupportedModelError(no_vision_stage(family))
    tower: MergedTower | PatchTower
    if isinstance(place, MergedStage):
        tower = MergedTower(base, place, stage.scorer, collector)
    else:
        tower = (TiledTower if place.packed else PatchTower)(base, place, stage.scorer, collector)
    if stage.keep_ratio < 1.0:
        tower.register(hooks)
        hand_over(tower, hooks)
    return collector
