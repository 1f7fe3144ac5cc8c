"""Asking one question under every arm and writing down what became of each visual token.

The order of things: prompt, geometry, passes, record. Nothing is measured but tokens, and nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reroute_cli import run
from reroute_cli.answer import (
    boxes_in,
    count_visual,
    environment_part,
    generation_part,
    model_part,
    target_of,
    text_of,
)
from reroute_cli.arms import Arm
from reroute_cli.boxes import Box
from reroute_cli.console.errors import UsageError
from reroute_cli.images import Picture, as_text
from reroute_cli.models import Loaded
from reroute_cli.outcome import average_visual
from reroute_cli.prompts import Prompt, build_prompt
from reroute_cli.records.trace import GridPart, PicturePart, TargetPart, TraceArm, TraceRecord
from reroute_cli.scores import iou
from reroute_cli.tracing.geometry import Sight, grids_of
from reroute_cli.tracing.grids import Grid, placed, tokens_within
from reroute_cli.tracing.stages import Places, never_used, stage_parts
from routing import RouteTrace, Schedule

_DECIMALS = 2  # of a pixel


def trace_question(
    loaded: Loaded,
    picture: Picture,
    question: str,
    arms: Sequence[Arm],
    max_new_tokens: int,
    given: Box | None = None,
) -> TraceRecord:
    """The record of one question about one picture under these arms, the dense one first.

    given: the box whose tokens count, in place of those in the dense answer. Raises what the parts raise.
    """
    prompt = build_prompt(loaded.processor, [picture], question)
    visual = count_visual(loaded, prompt)
    grids = grids_of(_sight(loaded, picture, prompt, visual))
    schedules = [arm.choice.build(target_of(loaded, visual)) for arm in arms]
    _check_work(schedules, visual, loaded.layers)
    passes = [
        run.traced_pass(run.make_job(loaded, prompt, schedule, max_new_tokens), max_new_tokens)
        for schedule in schedules
    ]
    answers = [_Answer(loaded, picture, prompt, row) for row, _ in passes]
    target = _target(given, answers[0], grids, picture.size)
    places = Places.of(grids, visual, target.tokens, target.reasons.get("tokens"))
    parts = [
        _arm(arm, schedule, answer, traced, places, loaded.layers, target)
        for arm, schedule, answer, (_, traced) in zip(arms, schedules, answers, passes, strict=True)
    ]
    width, height = picture.size
    return TraceRecord(
        picture=PicturePart(path=as_text(picture.path), width=width, height=height, digest=picture.digest),
        question=question,
        model=model_part(loaded),
        environment=environment_part(loaded),
        generation=generation_part(loaded, max_new_tokens),
        layers=loaded.layers,
        visual_tokens=visual,
        prompt_tokens=prompt.tokens,
        unplaced=visual - placed(grids),
        grids=[_grid_part(grid) for grid in grids],
        target=target,
        arms=parts,
    )


def _sight(loaded: Loaded, picture: Picture, prompt: Prompt, visual: int) -> Sight:
    processor = loaded.processor.image_processor
    return Sight(loaded.family, loaded.model.config, processor, prompt.inputs, picture.size, visual)


def _check_work(schedules: Sequence[Schedule], visual: int, layers: int) -> None:
    """Refuse a schedule that never leaves a token out."""
    for schedule in schedules[1:]:
        if all(count == visual for count in schedule.counts(visual, layers)):
            raise UsageError(
                f"this schedule keeps all {visual} visual tokens in every layer: there is nothing to trace; "
                "give a higher --ratio or a smaller --budget"
            )


class _Answer:
    """What one arm said: text, boxes (or why they can't be read), and whether it was cut off."""

    def __init__(self, loaded: Loaded, picture: Picture, prompt: Prompt, row: run.Row) -> None:
        self.row = row
        self.text = text_of(loaded, row)
        self.boxes, self.reasons = boxes_in(self.text, loaded, [picture.size], prompt)


def _target(given: Box | None, dense: _Answer, grids: Sequence[Grid], size: tuple[int, int]) -> TargetPart:
    """The given box, or the boxes of the dense answer, and the tokens in them."""
    boxes = [given] if given is not None else dense.boxes
    source: Any = "dense" if given is None else "given"
    if not boxes:
        why = dense.reasons.get("boxes", "there is no box in the dense answer")
        return TargetPart(source=source, boxes=None, tokens=None, reasons={"boxes": why, "tokens": why})
    tokens = list(tokens_within(grids, boxes))
    if tokens:
        return TargetPart(source=source, boxes=boxes, tokens=tokens)
    why = f"no visual token of this {size[0]} × {size[1]} picture has its centre in the box"
    return TargetPart(source=source, boxes=boxes, tokens=None, reasons={"tokens": why})


def _arm(
    arm: Arm,
    schedule: Schedule,
    answer: _Answer,
    traced: RouteTrace,
    places: Places,
    layers: int,
    target: TargetPart,
) -> TraceArm:
    average = average_visual(answer.row.stages, places.visual, layers)
    overlap, reasons = _overlap(answer, target.boxes)
    return TraceArm(
        name=arm.name,
        method=arm.method,
        action=str(schedule.action) if schedule.entries else None,  # type: ignore[arg-type]
        profile=arm.choice.profile,
        ratio=arm.choice.asked_ratio(places.visual) if schedule.entries else None,
        achieved_ratio=1 - average / places.visual,
        schedule_digest=schedule.digest(),
        answer=answer.text,
        finish="length" if answer.row.cut else "stop",
        boxes=answer.boxes,
        overlap=overlap,
        visual_tokens_per_layer=average,
        never_used=never_used(traced, places.visual),
        stages=stage_parts(schedule, traced, places),
        reasons=answer.reasons | reasons,
    )


def _overlap(answer: _Answer, boxes: Sequence[Box] | None) -> tuple[float | None, dict[str, str]]:
    """Intersection over union of an answer's only box with the target's only one, or why there is none."""
    if not boxes or answer.boxes is None:
        return None, {"overlap": answer.reasons.get("boxes", "the dense answer has no box")}
    if len(boxes) != 1 or len(answer.boxes) != 1:
        return None, {"overlap": f"{len(answer.boxes)} boxes in the answer against {len(boxes)}"}
    return iou(answer.boxes[0], boxes[0]), {}


def _grid_part(grid: Grid) -> GridPart:
    def rounded(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(round(start, _DECIMALS), round(end, _DECIMALS)) for start, end in spans]

    return GridPart(
        view=grid.view,  # type: ignore[arg-type]
        rows=rounded(grid.rows),
        columns=rounded(grid.columns),
        first=grid.first,
        row_ends=grid.row_ends,
    )
