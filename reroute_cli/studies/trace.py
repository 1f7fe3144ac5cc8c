"""Asking one question under every arm and writing down what became of each visual token.

The order of things: prompt, geometry, passes, record. The place of every visual token is held to what the
processor and the prompt really made: what does not add up is refused, never guessed. Nothing is measured but
tokens, and nothing is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.data.images import Picture, as_text
from reroute_cli.data.prompts import Prompt, build_prompt
from reroute_cli.measure import passes
from reroute_cli.measure.judges import iou
from reroute_cli.records.trace import (
    DEFERRED,
    KEPT,
    PRUNED,
    REENTERED,
    GridPart,
    PicturePart,
    TargetPart,
    TraceArm,
    TraceRecord,
    TraceStage,
)
from reroute_cli.run.answer import (
    boxes_in,
    environment_part,
    generation_part,
    model_part,
    text_of,
)
from reroute_cli.run.prompts import count_visual, target_of
from reroute_cli.run.stages import average_visual, places_of
from routing.families import family_of
from routing.grids import Grid, placed, tokens_within
from routing.schedule import Action, Pool

if TYPE_CHECKING:
    from reroute_cli.data.items import Box
    from reroute_cli.models.load import Loaded
    from reroute_cli.run.schedules import Arm
    from routing import RouteTrace, Schedule
    from routing.grids import Size

_DECIMALS = 2  # of a pixel
_DIGITS = 4  # of a score


def trace(
    loaded: Loaded,
    image: Picture,
    question: str,
    arms: Sequence[Arm],
    max_new_tokens: int,
    given: Box | None = None,
) -> TraceRecord:
    """What every stage of every arm did to each visual token of one question about one image.

    Args:
        loaded: the model.
        image: what the question is about.
        question: about it.
        arms: the schedules, the dense arm first; see `traced_arms`.
        max_new_tokens: the longest answer.
        given: the box (pixels) whose tokens recall counts, in place of those in the dense answer.

    Raises:
        UsageError: a schedule that never leaves a token out.
        CliError: what prompt, schedules or passes can't do.
    """
    prompt = build_prompt(loaded.processor, [image], question)
    visual = count_visual(loaded, prompt)
    processor = loaded.processor.image_processor
    grids = grids_of(
        ProcessedImage(loaded.family, loaded.model.config, processor, prompt.inputs, image.size, visual)
    )
    schedules = [arm.choice.build(target_of(loaded, visual)) for arm in arms]
    for schedule in schedules[1:]:
        if all(count == visual for count in schedule.counts(visual, loaded.layers)):
            raise UsageError(
                f"this schedule keeps all {visual} visual tokens in every layer: there is nothing to trace; "
                "give a higher --ratio or a smaller --budget"
            )
    made = [
        passes.traced_pass(passes.make_job(loaded, prompt, schedule, max_new_tokens), max_new_tokens)
        for schedule in schedules
    ]
    answers = [_Answer(loaded, image, prompt, row) for row, _ in made]
    target = _target(given, answers[0], grids, image.size)
    places = Places.of(grids, visual, target.tokens, target.reasons.get("tokens"))
    width, height = image.size
    return TraceRecord(
        picture=PicturePart(path=as_text(image.path), width=width, height=height, digest=image.digest),
        question=question,
        model=model_part(loaded),
        environment=environment_part(loaded),
        generation=generation_part(loaded, max_new_tokens),
        layers=loaded.layers,
        visual_tokens=visual,
        prompt_tokens=prompt.tokens,
        unplaced=visual - placed(grids),
        grids=[
            GridPart(
                view=grid.view,  # type: ignore[arg-type]
                rows=_rounded(grid.rows),
                columns=_rounded(grid.columns),
                first=grid.first,
                row_ends=grid.row_ends,
            )
            for grid in grids
        ],
        target=target,
        arms=[
            _arm(arm, schedule, answer, traced, places, loaded.layers, target)
            for arm, schedule, answer, (_, traced) in zip(arms, schedules, answers, made, strict=True)
        ],
    )


class _Answer:
    """What one arm said: text, boxes (or why they can't be read), and whether it was cut off."""

    def __init__(self, loaded: Loaded, image: Picture, prompt: Prompt, row: passes.SampleAnswer) -> None:
        self.row = row
        self.text = text_of(loaded, row)
        self.boxes, self.reasons = boxes_in(self.text, loaded, [image.size], prompt)


def _target(given: Box | None, dense: _Answer, grids: Sequence[Grid], size: tuple[int, int]) -> TargetPart:
    """The given box, or the boxes of the dense answer, and the tokens in them."""
    boxes = [given] if given is not None else dense.boxes
    basis: Any = "dense" if given is None else "given"
    if not boxes:
        why = dense.reasons.get("boxes", "there is no box in the dense answer")
        return TargetPart(basis=basis, boxes=None, tokens=None, reasons={"boxes": why, "tokens": why})
    tokens = list(tokens_within(grids, boxes))
    if tokens:
        return TargetPart(basis=basis, boxes=boxes, tokens=tokens)
    why = f"no visual token of this {size[0]} × {size[1]} image has its centre in the box"
    return TargetPart(basis=basis, boxes=boxes, tokens=None, reasons={"tokens": why})


def _rounded(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(round(start, _DECIMALS), round(end, _DECIMALS)) for start, end in spans]


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
        unplaced = frozenset(range(visual)) - {token for grid in grids for token, _ in grid.cells()}
        return cls(visual, unplaced, None if target is None else frozenset(target), why)


def _arm(
    arm: Arm,
    schedule: Schedule,
    answer: _Answer,
    traced: RouteTrace,
    places: Places,
    layers: int,
    target: TargetPart,
) -> TraceArm:
    """What one arm answered, how far its only box is from the target's only one, and its stages."""
    average = average_visual(answer.row.stages, places.visual, layers)
    overlap, why = None, ""
    if not target.boxes or answer.boxes is None:
        why = answer.reasons.get("boxes", "the dense answer has no box")
    elif len(target.boxes) != 1 or len(answer.boxes) != 1:
        why = f"{len(answer.boxes)} boxes in the answer against {len(target.boxes)}"
    else:
        overlap = iou(answer.boxes[0], target.boxes[0])
    used = frozenset[int]().union(*(stage.kept[0].tolist() for stage in traced.stages))
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
        never_used=places.visual - len(used) if traced.stages else 0,
        stages=stage_parts(schedule, traced, places),
        reasons=answer.reasons | ({"overlap": why} if overlap is None else {}),
    )


def stage_parts(schedule: Schedule, traced: RouteTrace, places: Places) -> list[TraceStage]:
    """The state and the score of every visual token at each stage; one before the decoder comes first."""
    ratios, where = dict(schedule.entries), places_of(schedule)
    pruned: frozenset[int] = frozenset()  # tokens that can't come back
    if schedule.action is Action.PRUNE:
        pruned = frozenset(range(places.visual))
    elif schedule.vision is not None and schedule.pool is Pool.ANCHORS:
        pruned = frozenset(range(places.visual)) - frozenset(traced.stages[0].kept[0].tolist())
    parts = []
    for stage in traced.stages:
        kept, back = frozenset(stage.kept[0].tolist()), frozenset(stage.reentered[0].tolist())
        left = {token: PRUNED if token in pruned else DEFERRED for token in range(places.visual)}
        states = left | dict.fromkeys(kept, KEPT) | dict.fromkeys(back, REENTERED)
        found, reasons, scores = stage.scores[0], {}, None
        if found is None:
            reasons["scores"] = "nothing was scored: the count left no choice"
        else:
            exact = found.tolist()
            scores = [float(f"{one:.{_DIGITS}g}") if math.isfinite(one) else None for one in exact]
        if places.target is None:
            reasons["recall"] = places.why or "there is no box to look for"
        parts.append(
            TraceStage(
                where=where[stage.layer],
                layer=stage.layer,
                scored_by=stage.scored_by,
                keep_ratio=ratios[stage.layer],
                kept=len(kept),
                reentered=len(back),
                kept_unplaced=len(kept & places.unplaced),
                recall=None if places.target is None else len(kept & places.target) / len(places.target),
                states="".join(states[token] for token in range(places.visual)),
                scores=scores,
                reasons=reasons,
            )
        )
    return parts


@dataclass(frozen=True)
class ProcessedImage:
    """One image on its way into a model.

    config: the model's. image_processor: what made the inputs. inputs: the prompt's, its pixel values among
    them. size: of the original image. visual: the prompt's visual tokens, all of this image.
    """

    family: str
    config: Any
    image_processor: Any
    inputs: Mapping[str, Any]
    size: Size
    visual: int


def grids_of(made: ProcessedImage) -> tuple[Grid, ...]:
    """The grids of a prompt with this one image; raises Failure where its tokens can't be placed."""
    try:
        found = family_of(made.family).grids(made.config, made.image_processor, made.size)
    except NotImplementedError as reason:
        raise Failure(
            f"where the visual tokens of {made.family} images stand is not known, so they can't be traced: "
            f"{reason}"
        ) from reason
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise Failure(
            f"the preprocessing numbers of this model make no sense ({error}): mend them"
        ) from error
    width, height = made.size
    if made.visual != found.visual:
        raise Failure(
            f"a {width} × {height} image has {made.visual} visual tokens here, and the geometry of "
            f"{made.family} tells the place of {found.visual}: its config.json and its preprocessor disagree"
        )
    # the processor made these grids: their shapes where it says them, or else their number
    if "image_grid_thw" in made.inputs:
        same = [list(grid) for grid in found.patches] == made.inputs["image_grid_thw"].tolist()
    else:
        same = len(found.patches) == prod(made.inputs["pixel_values"].shape[:-3])
    if not same:
        raise Failure(
            f"a {width} × {height} image was cut into other patches than the geometry of {made.family} "
            "tells: its config.json and its preprocessor disagree"
        )
    return found.cells
