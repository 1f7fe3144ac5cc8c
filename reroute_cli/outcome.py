"""What a schedule did to the visual tokens of one sample, from what the trace says was kept at each stage.

Knows schedules, traces' numbers and record parts; not models or measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reroute_cli.records.answer import StagePart

if TYPE_CHECKING:
    from reroute_cli.measure.passes import Stage
    from routing import Schedule


def visual_per_layer(stages: Sequence[Stage], visual: int, layers: int) -> list[int]:
    """Visual tokens that each decoder layer processed: those of the last stage at or before it."""
    counts = [visual] * layers
    for stage in stages:
        counts[stage.layer :] = [stage.kept] * (layers - stage.layer)
    return counts


def average_visual(stages: Sequence[Stage], visual: int, layers: int) -> float:
    """Mean visual tokens per decoder layer."""
    return sum(visual_per_layer(stages, visual, layers)) / layers


def stage_parts(schedule: Schedule, stages: Sequence[Stage]) -> list[StagePart]:
    """The stages as records hold them; one at the vision tower comes first."""
    keep_ratios = dict(schedule.entries)
    return [
        StagePart(
            where="vision" if schedule.vision is not None and index == 0 else "decoder",
            layer=stage.layer,
            keep_ratio=keep_ratios[stage.layer],
            kept=stage.kept,
            reentered=stage.reentered,
        )
        for index, stage in enumerate(stages)
    ]
