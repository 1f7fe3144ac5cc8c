"""The record of a plan, `reroute.plan/1`: what a schedule does to one prompt of a model and what that costs.

Everything in it is estimated: by arithmetic from shapes, not from a run. Does not know how.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from reroute_cli.records.section import Part, Section, as_json


class PlannedModelPart(Part):
    """The model. layers: of its decoder. dtype: of the KV cache."""

    id: str
    family: str
    layers: int
    dtype: str


class PlannedTokensPart(Part):
    """Tokens of the prompt. picture: the image that has so many visual tokens, as far as that is known."""

    visual: int
    text: int
    picture: str


class PlannedStagePart(Part):
    """One reduction. layer: 0-based. keep_ratio: of the original visual tokens. kept: tokens."""

    where: Literal["vision", "decoder"]
    layer: int
    keep_ratio: float
    kept: int


class PlannedSchedulePart(Part):
    """The schedule. method: null under a profile; profile: null without one; ratio: as asked for, or null.

    average_visual: visual tokens per decoder layer. visual_per_layer: how many each layer processes.
    """

    method: str | None
    profile: str | None
    action: str
    ratio: float | None
    achieved_ratio: float
    average_visual: float
    digest: str
    stages: list[PlannedStagePart]
    visual_per_layer: list[int]


class PlannedCostPart(Section):
    """FLOPs and bytes of the prompt's prefill. prefill_flops: of the decoder, without scoring.

    vision_flops: of the vision tower. scoring_flops: of all ranking, a vision stage's own work included.
    """

    vision_flops: int | None
    prefill_flops: int
    scoring_flops: int | None
    kv_cache_bytes: int


class PlannedRatiosPart(Part):
    """Routed over dense. prefill: FLOPs, scoring included as far as it is known, without the vision tower."""

    prefill: float
    kv_cache: float


class Plan(Part):
    """One plan. routed: null for the dense model. caveat: null, or that a profile is another model's."""

    schema_: Literal["reroute.plan/1"] = Field(default="reroute.plan/1", alias="schema")
    source: Literal["estimated"] = "estimated"
    model: PlannedModelPart
    tokens: PlannedTokensPart
    schedule: PlannedSchedulePart
    dense: PlannedCostPart
    routed: PlannedCostPart | None
    caveat: str | None
    ratios: PlannedRatiosPart

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, `schema` first and `reasons` last in each section."""
        return as_json(self)
