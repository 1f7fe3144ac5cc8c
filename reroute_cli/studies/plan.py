"""A plan: what a schedule does to one prompt of a model and what that costs.

Everything here is estimated: by arithmetic from shapes, not from a run. Base units: FLOPs and bytes are int.
Knows shapes and schedules; no torch.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from reroute_cli.console.errors import UsageError
from reroute_cli.models.shapes import ELEMENT_BYTES, Shaped, read_shape
from reroute_cli.records.answer import ResizedPart
from reroute_cli.records.base import ModelPart
from reroute_cli.records.plan import (
    Plan,
    PlannedCostPart,
    PlannedRatiosPart,
    PlannedSchedulePart,
    PlannedStagePart,
    PlannedTokensPart,
)
from reroute_cli.run.prompts import resized as resized_images
from reroute_cli.run.stages import places_of
from routing.cost import Cost, PlanCost, PromptSize, cost
from routing.families import family_of
from routing.methods import DENSE, SCORERS
from routing.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reroute_cli.console.command_options import PromptOptions, ShapeOptions
    from reroute_cli.models.image_tokens import Size
    from reroute_cli.run.schedules import ScheduleChoice
    from routing.model_shape import ModelShape


def plan(shaped: Shaped, choice: ScheduleChoice, text: int, dtype: str) -> Plan:
    """The schedule of one prompt and its cost beside dense; unknown numbers are null with a reason.

    Args:
        shaped: the model's shapes and the prompt's images, see `read_shape`.
        choice: the schedule that is asked for.
        text: text tokens of the prompt.
        dtype: of the KV cache, a name of ELEMENT_BYTES.

    Raises:
        UsageError, BudgetError, ScheduleError: a schedule that this model can't have.
    """
    target = shaped.target
    visual, layers = target.visual, target.layers
    schedule = choice.build(target)
    seen, resized = _smaller(shaped, choice) if choice.resizes else (shaped, None)

    def work(one: Shaped, how: Schedule) -> Cost:
        prompt, size = PromptSize(text, one.visual or 0), ELEMENT_BYTES[dtype]
        return cost(shaped.shape, how, [prompt], element_bytes=size, grids=one.grids)

    costs = PlanCost(work(shaped, Schedule()), work(seen, schedule))
    average, no_vision = schedule.average_tokens(seen.target.visual, layers), None
    if costs.dense.vision_flops is None:
        no_vision = shaped.shape.tower_reason or "the image's patch grid is not known from its token count"
    unknown: dict[str, Any] = dict.fromkeys(("revision", "config_digest", "attention", "device", "weights"))
    return Plan(
        model=ModelPart(
            id=shaped.name,
            family=shaped.shape.family,
            layers=len(shaped.shape.layers),
            dtype=dtype,
            **unknown,
            reasons=dict.fromkeys(unknown, "a plan runs no model"),
        ),
        tokens=PlannedTokensPart(visual_tokens=visual, text_tokens=text, picture=shaped.picture),
        schedule=PlannedSchedulePart(
            method=None if choice.profile else choice.method or DENSE,
            profile=choice.profile,
            action=str(schedule.action) if resized is None else "resize",
            ratio=choice.asked_ratio(visual),
            achieved_ratio=1 - average / visual if visual else 0.0,
            visual_tokens_per_layer=average,
            digest=schedule.digest(),
            stages=_stages(shaped, schedule),
            per_layer_visual_tokens=list(schedule.tokens_per_layer(seen.target.visual, layers)),
            resized=resized,
        ),
        dense=_cost(costs.dense, no_vision),
        routed=_cost(costs.routed, no_vision) if schedule.entries or resized else None,
        caveat=choice.caveat(shaped.shape.family, layers),
        ratios=PlannedRatiosPart(prefill_flops=costs.prefill_ratio, kv_prefill=costs.kv_ratio),
    )


def plan_prompt(
    model: ShapeOptions, choice: ScheduleChoice, prompt: PromptOptions, sizes: Sequence[Size]
) -> Plan:
    """The plan that options ask for; `sizes` are (width, height) in pixels of the prompt's images, if any.

    Without images it is for a number of visual tokens, or for one image of the model's own size. Raises what
    `plan` and `read_shape` raise.
    """
    shaped = read_shape(model.model)
    shaped = shaped.with_pictures(sizes) if sizes else shaped.with_visual(prompt.visual_tokens)
    return plan(shaped, choice, prompt.text_tokens, shaped.dtype if model.dtype == "auto" else model.dtype)


def _smaller(shaped: Shaped, choice: ScheduleChoice) -> tuple[Shaped, ResizedPart]:
    """The same prompt with its images made smaller, and what was done to them.

    Raises UsageError where no image is named and its size matters.
    """
    family = family_of(shaped.shape.family)
    if not shaped.sizes:
        if family.one_size:
            return shaped, ResizedPart(images=[], saves=False)
        raise UsageError(f"{choice.method} makes an image smaller: name one with --image")
    grids = partial(family.grids, shaped.config, shaped.image or {})
    ratio = choice.asked_ratio(shaped.target.visual) or 0.0
    part = resized_images(grids, shaped.sizes, ratio, shaped.config)
    return shaped.with_pictures([image.size for image in part.images]), part


def _stages(shaped: Shaped, schedule: Schedule) -> list[PlannedStagePart]:
    """Every reduction of a schedule, one before the decoder first."""
    counts, places = schedule.counts(shaped.target.visual, shaped.target.layers), places_of(schedule)
    return [
        PlannedStagePart(
            where=places[layer],
            layer=layer,
            keep_ratio=keep_ratio,
            kept=kept,
            scored_by=by,
        )
        for (layer, keep_ratio), kept, by in zip(
            schedule.entries, counts, _ranking(shaped.shape, schedule), strict=True
        )
    ]


def _cost(found: Cost, no_vision: str | None) -> PlannedCostPart:
    unknown = {"vision_flops": no_vision} if no_vision else {}
    scoring = None if found.anchor_flops is None else found.scoring_flops + found.anchor_flops
    if scoring is None:
        why = no_vision or "what the vision stage computes is not known for this tower"
        unknown |= dict.fromkeys(("prefill_flops", "scoring_flops"), why)
    return PlannedCostPart(
        vision_flops=found.vision_flops,
        prefill_flops=None if scoring is None else found.prefill_flops + scoring,
        scoring_flops=scoring,
        unscored_prefill_flops=found.prefill_flops,
        kv_prefill_bytes=sum(found.kv_bytes),
        reasons=unknown,
    )


def _ranking(shape: ModelShape, schedule: Schedule) -> list[int | None]:
    """The layer whose attention ranks, for each entry of a schedule."""
    looks = SCORERS[schedule.scorer].looks
    by = [shape.ranking(stage.ranking_layer)[0] if looks else None for stage in schedule.stages]
    return by if schedule.vision is None else [None, *by]
