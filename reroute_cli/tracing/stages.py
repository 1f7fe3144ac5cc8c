"""From the engine's trace to what a record says of each stage: the state and the score of every visual token.

Knows traces and records; no model, no picture, no drawing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from reroute_cli.records.trace import DEFERRED, KEPT, PRUNED, REENTERED, TraceStage
from routing.grids import Grid
from routing.schedule import Action, Pool

if TYPE_CHECKING:
    from routing import RouteTrace, Schedule
    from routing.trace import StageTrace

_DIGITS = 4  # of a score


@dataclass(frozen=True)
class Places:
    """The visual tokens of one prompt: how many, which of them stand for no place, which are asked about.

    target: the tokens that recall is measured by, None where `why` says why there are none.
    """

    visual: int
    unplaced: frozenset[int]
    target: frozenset[int] | None
    why: str | None

    @classmethod
    def of(cls, grids: Sequence[Grid], visual: int, target: Sequence[int] | None, why: str | None) -> Self:
        """From the grids of a prompt."""
        held = {token for grid in grids for token, _ in grid.cells()}
        return cls(
            visual,
            frozenset(range(visual)) - held,
            None if target is None else frozenset(target),
            why,
        )


def stage_parts(schedule: Schedule, traced: RouteTrace, places: Places) -> list[TraceStage]:
    """The stages in order; one at the vision tower comes first."""
    ratios = dict(schedule.entries)
    gone = _gone(schedule, traced, places)
    return [
        _part(stage, index, schedule, ratios[stage.layer], gone, places)
        for index, stage in enumerate(traced.stages)
    ]


def never_used(traced: RouteTrace, visual: int) -> int:
    """Tokens that no stage kept; 0 where there are no stages."""
    if not traced.stages:
        return 0
    return visual - len(set().union(*(stage.kept[0].tolist() for stage in traced.stages)))


def _gone(schedule: Schedule, traced: RouteTrace, places: Places) -> frozenset[int]:
    """Tokens that can't come back though others can: those that are no anchors where only anchors may."""
    if schedule.vision is None or schedule.pool is not Pool.ANCHORS:
        return frozenset()
    return frozenset(range(places.visual)) - frozenset(traced.stages[0].kept[0].tolist())


def _part(
    stage: StageTrace, index: int, schedule: Schedule, ratio: float, gone: frozenset[int], places: Places
) -> TraceStage:
    kept, back = frozenset(stage.kept[0].tolist()), frozenset(stage.reentered[0].tolist())
    states = _states(kept, back, gone, schedule.action, places.visual)
    scores, reasons = _scores(stage)
    if places.target is None:
        reasons["recall"] = places.why or "there is no box to look for"
    return TraceStage(
        where="vision" if schedule.vision is not None and index == 0 else "decoder",
        layer=stage.layer,
        keep_ratio=ratio,
        kept=len(kept),
        reentered=len(back),
        kept_unplaced=len(kept & places.unplaced),
        recall=None if places.target is None else len(kept & places.target) / len(places.target),
        states=states,
        scores=scores,
        reasons=reasons,
    )


def _states(
    kept: frozenset[int], back: frozenset[int], gone: frozenset[int], action: Action, visual: int
) -> str:
    """A character for each visual token."""

    def state(token: int) -> str:
        if token in back:
            return REENTERED
        if token in kept:
            return KEPT
        return PRUNED if action is Action.PRUNE or token in gone else DEFERRED

    return "".join(map(state, range(visual)))


def _scores(stage: StageTrace) -> tuple[list[float | None] | None, dict[str, str]]:
    """Scores as a record holds them, or why there are none."""
    found = stage.scores[0]
    if found is None:
        return None, {"scores": "nothing was scored: the count left no choice"}
    return [float(f"{score:.{_DIGITS}g}") if math.isfinite(score) else None for score in found.tolist()], {}
