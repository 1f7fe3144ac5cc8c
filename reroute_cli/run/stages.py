"""The reductions of a schedule: where each takes place, and how many visual tokens were left of a run.

Knows schedules and counts, no model and no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reroute_cli.records.answer import StagePart
from routing.methods import SELECTIONS

if TYPE_CHECKING:
    from reroute_cli.measure.passes import StageCounts
    from reroute_cli.records.base import Place
    from routing.schedule import Schedule


def places_of(schedule: Schedule) -> dict[int, Place]:
    """Layer of each reduction of a schedule, in order -> where it takes place."""
    found: dict[int, Place] = {stage.layer: "decoder" for stage in schedule.stages}
    if schedule.vision is None:
        return found
    at_the_tower = SELECTIONS[schedule.vision.selection].at_the_tower
    return {schedule.vision.layer: "vision" if at_the_tower else "entrance", **found}


def visual_per_layer(stages: Sequence[StageCounts], visual: int, layers: int) -> list[int]:
    """Visual tokens that each decoder layer processed: those of the last stage at or before it."""
    counts = [visual] * layers
    for stage in stages:
        counts[stage.layer :] = [stage.kept] * (layers - stage.layer)
    return counts


def average_visual(stages: Sequence[StageCounts], visual: int, layers: int) -> float:
    """Mean visual tokens per decoder layer."""
    return sum(visual_per_layer(stages, visual, layers)) / layers


def stage_parts(schedule: Schedule, stages: Sequence[StageCounts]) -> list[StagePart]:
    """The stages as records hold them; one before the decoder comes first."""
    keep_ratios, where = dict(schedule.entries), places_of(schedule)
    return [
        StagePart(
            where=where[stage.layer],
            layer=stage.layer,
            keep_ratio=keep_ratios[stage.layer],
            kept=stage.kept,
            reentered=stage.reentered,
        )
        for stage in stages
    ]
