"""The record of a plan, `reroute.plan/2`: what a schedule does to one prompt of a model and what that costs.

Everything in it is estimated: by arithmetic from shapes, not from a run. Does not know how.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reroute_cli.records.answer import ResizedPart
from reroute_cli.records.base import Header, Part, Place, Section


class PlannedTokensPart(Part):
    """Tokens of the prompt. picture: the image that has so many visual tokens, as far as that is known."""

    visual_tokens: int
    text_tokens: int
    picture: str


class PlannedStagePart(Part):
    """One reduction. layer: 0-based. keep_ratio: of the original visual tokens. kept: tokens.

    scored_by: the decoder layer whose attention ranks, null where none does (before the decoder, or in a
    draw) or an older record does not say.
    """

    where: Place
    layer: int
    keep_ratio: float
    kept: int
    scored_by: int | None = None


class PlannedSchedulePart(Part):
    """The schedule. method: null under a profile; profile: null without one; ratio: as asked for, or null.

    per_layer_visual_tokens: how many each decoder layer processes; visual_tokens_per_layer is their mean.
    resized: of a method that makes images smaller; none of them is in it where no size was named.
    """

    method: str | None
    profile: str | None
    action: str
    ratio: float | None
    achieved_ratio: float
    visual_tokens_per_layer: float
    digest: str
    stages: list[PlannedStagePart]
    per_layer_visual_tokens: list[int]
    resized: ResizedPart | None = None


class PlannedCostPart(Section):
    """What the prompt's prefill takes. prefill_flops: decoder and head, scoring_flops included.

    scoring_flops: of all ranking, a vision stage's own work included. unscored_prefill_flops: prefill_flops
    without it, which is known where the ranking's is not.
    """

    vision_flops: int | None
    prefill_flops: int | None
    scoring_flops: int | None
    unscored_prefill_flops: int
    kv_prefill_bytes: int


class PlannedRatiosPart(Part):
    """Routed over dense, by metric. prefill_flops: scoring is left out where it is not known."""

    prefill_flops: float
    kv_prefill: float


class Plan(Header):
    """One plan. model: as it would run; null what only a run has. routed: null for the dense model.

    caveat: null, or that a profile is another model's, or that smaller images save nothing.
    """

    plain_nulls = Header.plain_nulls | {"routed", "caveat"}

    schema_: Literal["reroute.plan/2"] = Field(default="reroute.plan/2", alias="schema")
    source: Literal["estimated"] = "estimated"
    tokens: PlannedTokensPart
    schedule: PlannedSchedulePart
    dense: PlannedCostPart
    routed: PlannedCostPart | None
    caveat: str | None
    ratios: PlannedRatiosPart
