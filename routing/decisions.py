"""A schedule in token counts, for one batch of prompts.

Plain integers on the host, so that nothing waits for the device later on. Knows no layers and no hooks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from routing.anchors import VisionCollector
from routing.errors import ScheduleError
from routing.families import ModelInfo
from routing.layout import VisualLayout
from routing.methods import SCORERS
from routing.schedule import Action, Pool, Schedule, VisionStage


@dataclass(frozen=True)
class Decision:
    """A stage with its token counts: after it, sample b keeps counts[b] visual tokens.

    chosen, scores: (B, L) bool and float32 when the choice was made outside the decoder (the vision stage).
    """

    layer: int
    scored_by: int
    counts: tuple[int, ...]
    chosen: Tensor | None = None
    scores: Tensor | None = None


def decisions(
    schedule: Schedule, layers: int, layout: VisualLayout, anchors: VisionCollector | None
) -> tuple[Decision, ...]:
    """The decisions of a schedule over `layers` decoder layers for the samples of one prompt batch.

    anchors: what the vision stage kept; None for schedules without one.
    """
    counts = [schedule.counts(visual, layers) for visual in layout.visual_counts]
    per_entry = list(zip(*counts, strict=True))
    found, limit = [], layout.visual_counts
    if schedule.vision is not None:
        assert anchors is not None
        found.append(_at_the_tower(schedule.vision, layout, anchors))
        per_entry = per_entry[1:]
        if schedule.action is Action.PRUNE or schedule.pool is Pool.ANCHORS:
            limit = found[0].counts  # every picture rounds by itself: maybe fewer than the ratio's
    for stage, kept in zip(schedule.stages, per_entry, strict=True):
        found.append(Decision(stage.layer, stage.ranking_layer, tuple(map(min, kept, limit))))
    return tuple(found)


def _at_the_tower(stage: VisionStage, layout: VisualLayout, anchors: VisionCollector) -> Decision:
    selections = anchors.take(layout.visual_counts)
    device = layout.visual.device
    chosen = torch.zeros_like(layout.visual)
    scores = torch.full(chosen.shape, -torch.inf, device=device)
    for row, (columns, found) in enumerate(zip(layout.positions, selections, strict=True)):
        at = columns.to(device)
        chosen[row, at[found.kept.to(device)]] = True
        if found.scores is not None:
            scores[row, at] = found.scores.to(device)
    counts = tuple(len(found.kept) for found in selections)
    return Decision(stage.layer, stage.layer, counts, chosen, scores)


def check_fit(schedule: Schedule, info: ModelInfo) -> None:
    """Raise ScheduleError unless the schedule fits the model's depth and first routable layer."""
    if not isinstance(schedule, Schedule):
        raise ScheduleError(f"the schedule must be a routing.Schedule, got {schedule!r}")
    if schedule.scorer not in SCORERS:
        raise ScheduleError(f"scorer must be one of {', '.join(SCORERS)}, got {schedule.scorer!r}")
    schedule.counts(1, info.layers)
    asked = [layer for layer, _ in schedule.entries] + [stage.ranking_layer for stage in schedule.stages]
    if asked and min(asked) < info.first_layer:
        raise ScheduleError(
            f"layer {min(asked)} cannot decide: {info.family} adds vision features after layers "
            f"0..{info.first_layer - 1}, so the first decision is at layer {info.first_layer} or later"
        )
