"""The record of a trace, `reroute.trace/2`: what became of every visual token under each schedule.

It holds all that a drawing needs but the image's own pixels, which its digest names. Lists over visual
tokens have one entry a token, in the order of the prompt. Does not know how anything was traced or drawn.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from reroute_cli.records.base import Part, Place, RunHeader, Section
from reroute_cli.records.metrics import DENSE_ARM

KEPT, REENTERED, DEFERRED, PRUNED = "k", "r", "d", "p"

Box = tuple[float, float, float, float]
Span = tuple[float, float]


class PicturePart(Part):
    """The image: as it was named, its upright size in pixels, and the SHA-256 of its file."""

    path: str
    width: int
    height: int
    digest: str


class GridPart(Part):
    """Consecutive visual tokens, row by row, over the image or a tile of it.

    view: "detail" is the image once, at the finest that the model saw; "overview" is the whole image
    again. rows, columns: from where to where each reaches, in pixels; beyond the image lies padding.
    first: the token of the first cell. row_ends: each row is followed by a token that stands for no place.
    So cell (r, c) is token first + r * (columns + row_ends) + c.
    """

    view: Literal["detail", "overview"]
    rows: list[Span]
    columns: list[Span]
    first: int
    row_ends: bool


class TargetPart(Section):
    """What a good schedule keeps: the boxes that recall is measured by, and the tokens centred in them.

    basis: "given" with --box, or "dense" for those in the dense answer.
    """

    basis: Literal["given", "dense"]
    boxes: list[Box] | None
    tokens: list[int] | None


class TraceStage(Section):
    """One reduction. where, layer, keep_ratio, kept, reentered: as in `reroute.answer/2`.

    states: a character a visual token: k kept, r kept though deferred at the stage before, d deferred (it
    bypasses this stage and is a candidate at the next), p pruned here or before.
    scored_by: the decoder layer whose attention ranked, null where none did or an older record does not say.
    scores: of the tokens by which the stage chose, four significant digits, null for what was no candidate.
    recall: share of the target's tokens that are kept. kept_unplaced: kept tokens that stand for no place.
    """

    plain_nulls = frozenset({"scored_by"})

    where: Place
    layer: int
    scored_by: int | None = None
    keep_ratio: float
    kept: int
    reentered: int
    kept_unplaced: int
    recall: float | None
    states: str = Field(pattern="^[krdp]*$")
    scores: list[float | None] | None


class TraceArm(Section):
    """One schedule, with its digest. never_used: visual tokens that no stage kept.

    overlap: intersection over union of the only box in the answer with the only one of the target.
    """

    plain_nulls = frozenset({"method", "action", "profile", "ratio"})

    name: str
    method: str | None
    action: Literal["prune", "reroute"] | None
    profile: str | None
    ratio: float | None
    achieved_ratio: float
    schedule_digest: str
    answer: str
    finish: Literal["stop", "length"]
    boxes: list[Box] | None
    overlap: float | None
    visual_tokens_per_layer: float
    never_used: int
    stages: list[TraceStage]


class TraceRecord(RunHeader):
    """One question about one image, under the dense model and one or two schedules.

    layers: of the decoder. unplaced: visual tokens that stand for no place, as the ends of rows.
    """

    schema_: Literal["reroute.trace/2"] = Field(default="reroute.trace/2", alias="schema")
    picture: PicturePart
    question: str
    layers: int
    visual_tokens: int
    prompt_tokens: int
    unplaced: int
    grids: list[GridPart] = Field(min_length=1)
    target: TargetPart
    arms: list[TraceArm] = Field(min_length=2)

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.arms[0].name != DENSE_ARM or self.arms[0].stages:
            raise ValueError(f"the first arm is '{DENSE_ARM}' and has no stages")
        visual = self.visual_tokens
        for stage in (stage for arm in self.arms for stage in arm.stages):
            # Its lists have an entry a token, and its counts are theirs.
            if len(stage.states) != visual or (stage.scores is not None and len(stage.scores) != visual):
                raise ValueError(f"the stage at layer {stage.layer} does not tell of {visual} visual tokens")
            reentered = stage.states.count(REENTERED)
            if (stage.kept, stage.reentered) != (stage.states.count(KEPT) + reentered, reentered):
                raise ValueError(f"the stage at layer {stage.layer} counts other tokens than it names")
        return self
