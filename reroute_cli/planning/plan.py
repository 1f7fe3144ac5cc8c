"""A plan: what a schedule does to one prompt of a model and what that costs.

Everything here is estimated: by arithmetic from shapes, not from a run. Base units: FLOPs and bytes are int.
Knows shapes and schedules; no torch.
"""

from __future__ import annotations

from reroute_cli.console.options import DENSE
from reroute_cli.planning.shapes import ELEMENT_BYTES, Shaped
from reroute_cli.records.plan import (
    Plan,
    PlannedCostPart,
    PlannedModelPart,
    PlannedRatiosPart,
    PlannedSchedulePart,
    PlannedStagePart,
    PlannedTokensPart,
)
from reroute_cli.schedules import ScheduleChoice
from routing import Schedule
from routing.cost import Cost, Prompt
from routing.cost import plan as plan_cost


def make_plan(shaped: Shaped, choice: ScheduleChoice, text: int, dtype: str) -> Plan:
    """The plan; unknown numbers are null with a reason."""
    target = shaped.target
    schedule = choice.build(target)
    costs = plan_cost(
        shaped.shape,
        schedule,
        [Prompt(text, target.visual)],
        element_bytes=ELEMENT_BYTES[dtype],
        grids=shaped.grids,
    )
    no_vision = _why_no_vision(shaped) if costs.dense.vision_flops is None else None
    return Plan(
        model=PlannedModelPart(id=shaped.name, family=shaped.shape.family, layers=target.layers, dtype=dtype),
        tokens=PlannedTokensPart(visual=target.visual, text=text, picture=shaped.picture),
        schedule=_schedule(choice, schedule, target.visual, target.layers),
        dense=_cost(costs.dense, no_vision),
        routed=_cost(costs.routed, no_vision) if schedule.entries else None,
        caveat=choice.caveat(shaped.shape.family, target.layers),
        ratios=PlannedRatiosPart(prefill=costs.prefill_ratio, kv_cache=costs.kv_ratio),
    )


def _why_no_vision(shaped: Shaped) -> str:
    return shaped.shape.tower_reason or "the picture's patch grid is not known from its token count"


def _schedule(choice: ScheduleChoice, schedule: Schedule, visual: int, layers: int) -> PlannedSchedulePart:
    counts = schedule.counts(visual, layers)
    decoder_from = 0 if schedule.vision is None else 1
    return PlannedSchedulePart(
        method=None if choice.profile else choice.method or DENSE,
        profile=choice.profile,
        action=str(schedule.action),
        ratio=choice.asked_ratio(visual),
        achieved_ratio=schedule.achieved_ratio(visual, layers),
        average_visual=schedule.average_tokens(visual, layers),
        digest=schedule.digest(),
        stages=[
            PlannedStagePart(
                where="vision" if index < decoder_from else "decoder",
                layer=layer,
                keep_ratio=keep_ratio,
                kept=kept,
            )
            for index, ((layer, keep_ratio), kept) in enumerate(zip(schedule.entries, counts, strict=True))
        ],
        visual_per_layer=list(schedule.tokens_per_layer(visual, layers)),
    )


def _cost(cost: Cost, no_vision: str | None) -> PlannedCostPart:
    unknown = {"vision_flops": no_vision} if no_vision else {}
    if cost.anchor_flops is None:
        unknown["scoring_flops"] = no_vision or "what the vision stage computes is not known for this tower"
    return PlannedCostPart(
        vision_flops=cost.vision_flops,
        prefill_flops=cost.prefill_flops,
        scoring_flops=None if cost.anchor_flops is None else cost.scoring_flops + cost.anchor_flops,
        kv_cache_bytes=sum(cost.kv_bytes),
        reasons=unknown,
    )
