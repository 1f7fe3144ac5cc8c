"""A schedule in token counts, for one batch of prompts.

Plain integers on the host, so that nothing waits for the device later on. Knows no layers and no hooks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from routing.errors import ScheduleError
from routing.families import ModelInfo
from routing.layout import VisualLayout
from routing.methods import SCORERS, SELECTIONS, Selection
from routing.schedule import Action, Pool, Schedule, VisionStage
from routing.vision.collector import VisionCollector


@dataclass(frozen=True)
class Decision:
    """A stage with its token counts: after it, sample b keeps counts[b] visual tokens.

    ranked_at: layer whose input is ranked. scored_by: layer whose attention ranks it: the same, or the
    nearest one after it that has attention.
    chosen, scores: (B, L) bool and float32 when the choice was made at the vision tower.
    selection: what chooses where features enter the decoder, in place of a layer's attention.
    """

    layer: int
    ranked_at: int
    scored_by: int
    counts: tuple[int, ...]
    chosen: Tensor | None = None
    scores: Tensor | None = None
    selection: Selection | None = None

    @property
    def by_layer(self) -> bool:
        """It is ranked in the decoder, not chosen before it."""
        return self.chosen is None and self.selection is None


def decisions(
    schedule: Schedule, info: ModelInfo, layout: VisualLayout, anchors: VisionCollector | None
) -> tuple[Decision, ...]:
    """The decisions of a schedule over a model's decoder layers, for the samples of one prompt batch.

    anchors: what was kept at the vision tower; None for schedules that choose nothing there.
    """
    counts = [schedule.counts(visual, info.layers) for visual in layout.visual_counts]
    per_entry = list(zip(*counts, strict=True))
    found, limit = [], layout.visual_counts
    if (stage := schedule.vision) is not None:
        found.append(
            Decision(stage.layer, 0, 0, per_entry[0], selection=SELECTIONS[stage.selection])
            if anchors is None
            else _at_the_tower(stage, layout, anchors)
        )
        per_entry = per_entry[1:]
        if schedule.action is Action.PRUNE or schedule.pool is Pool.ANCHORS:
            limit = found[0].counts  # every picture rounds by itself: maybe fewer than the ratio's
    for later, kept in zip(schedule.stages, per_entry, strict=True):
        at = later.ranking_layer
        by = info.ranking(at)
        found.append(Decision(later.layer, at, at if by is None else by, tuple(map(min, kept, limit))))
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
    return Decision(stage.layer, stage.layer, stage.layer, counts, chosen, scores)


def check_fit(schedule: Schedule, info: ModelInfo) -> None:
    """Raise ScheduleError unless the schedule fits the model: its depth, and which layers may decide."""
    if not isinstance(schedule, Schedule):
        raise ScheduleError(f"the schedule must be a routing.Schedule, got {schedule!r}")
    if schedule.scorer not in SCORERS:
        raise ScheduleError(f"scorer must be one of {', '.join(SCORERS)}, got {schedule.scorer!r}")
    if schedule.vision is not None:
        _check_selection(schedule.vision)
    if SCORERS[schedule.scorer].merge is not None and schedule.action is Action.REROUTE:
        raise ScheduleError(f"{schedule.scorer} merges what it removes: it can prune, not reroute")
    schedule.counts(1, info.layers)
    asked = [layer for layer, _ in schedule.entries] + [stage.ranking_layer for stage in schedule.stages]
    if asked and min(asked) < info.first_layer:
        raise ScheduleError(
            f"layer {min(asked)} cannot decide: {info.family} adds vision features after layers "
            f"0..{info.first_layer - 1}, so the first decision is at layer {info.first_layer} or later"
        )
    if asked and max(asked) > min(info.producers.values(), default=info.layers):
        raise ScheduleError(
            f"layer {max(asked)} cannot decide: from layer {min(info.producers)} on, {info.family} uses the "
            f"keys of layer {min(info.producers.values())} and later ones, so the last decision is at layer "
            f"{info.last_layer} or earlier"
        )
    ranked = schedule.stages if SCORERS[schedule.scorer].looks else ()
    for stage in ranked:
        if info.ranking(stage.ranking_layer) is None:
            raise ScheduleError(
                f"layer {stage.ranking_layer} cannot decide: neither it nor a layer after it has attention "
                f"of its own in {info.family}"
            )


def _check_selection(stage: VisionStage) -> None:
    if stage.selection not in SELECTIONS:
        raise ScheduleError(f"selection must be one of {', '.join(SELECTIONS)}, got {stage.selection!r}")
    SELECTIONS[stage.selection].check(stage)
