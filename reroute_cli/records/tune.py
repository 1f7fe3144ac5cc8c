"""The report of a search for a schedule, `reroute.tune/2`.

What was found is scored on the half of the images that the search has not seen; `course` is how it was
found, on the other half, and no result. Does not know how anything was measured.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from reroute_cli.records.base import Part, Place, ReportHeader, Section
from reroute_cli.records.evaluation import CostPart, DifferencePart, MadePart, ScorePart
from reroute_cli.records.metrics import DENSE_ARM


class TuneAsked(Part):
    """What was asked for: one of budget (visual tokens per decoder layer), ratio and floor.

    floor_of_dense: the floor is a share of the dense model's score. answers: what the search might ask.
    """

    budget: float | None
    ratio: float | None
    floor: float | None
    floor_of_dense: bool
    score: str
    methods: list[str]
    actions: list[str]
    answers: int
    seed: int


class HalfPart(Part):
    """One half of the questions. digest: SHA-256 over ids, images, questions and truths, in their order."""

    images: int
    questions: int
    digest: str


class TuneQuestions(Part):
    """Which questions were asked. provenance: where they come from.

    other: those that the score is not of.
    """

    name: str
    provenance: dict[str, str]
    searched: HalfPart
    reported: HalfPart
    other: int
    max_new_tokens: int
    batch_size: int


class BudgetPart(Part):
    """What every schedule of the search had to fit: at most `layer_tokens` visual tokens, layers summed up.

    visual_tokens: of an image that the counts are for. visual_tokens_per_layer: the most that fit.
    """

    layers: int
    first_layer: int
    visual_tokens: int
    layer_tokens: int
    visual_tokens_per_layer: float
    ratio: float


class EntryPart(Section):
    """One decision of a schedule. kept: of `visual_tokens`. scored_by: the layer whose attention ranks."""

    where: Place
    layer: int
    keep_ratio: float
    kept: int
    scored_by: int | None


class FoundPart(Section):
    """The schedule that was found. arm: the one that it is; a published method where nothing was better.

    visual_tokens_per_layer: by arithmetic, for an image of the budget's `visual_tokens`. profile: the file
    that it was written to. schedule: as the engine takes it, with its digest; it and scorer are null of
    smaller images (action "resize"), whose average is that of the answers.
    """

    plain_nulls = frozenset({"profile", "schedule", "scorer"})

    arm: str
    published: bool
    method: str
    action: str
    scorer: str | None
    stages: list[EntryPart]
    visual_tokens_per_layer: float
    schedule_digest: str
    schedule: dict[str, Any] | None
    profile: str | None


class TuneArm(Section):
    """One schedule on the reported half. published: a method as it is, at the same budget.

    to_dense: this arm minus the dense one. to_found: what was found minus this arm; empty for that itself.
    """

    name: str
    published: bool
    made: MadePart | None
    cost: CostPart | None
    scores: dict[str, ScorePart]
    to_dense: dict[str, DifferencePart]
    to_found: dict[str, DifferencePart]


class FloorPart(Part):
    """What became of the floor. value: as a score on the reported half; score: of what was found, there.

    searched: the floor on the searched half, where the schedule was chosen. holds: score >= value.
    """

    value: float
    score: float
    searched: float
    holds: bool


class TriedPart(Section):
    """One schedule of the search. value: its score over the first `questions` of the searched half.

    layer_tokens: the budget of the search that it was tried in. identity: what it does, in one line.
    broken: why the model can't run it.
    """

    plain_nulls = frozenset({"broken", "value"})

    method: str
    action: str
    origin: str
    identity: str
    layer_tokens: int
    visual_tokens_per_layer: float
    questions: int
    value: float | None
    broken: str | None


class RungPart(Part):
    """Schedules that were marked over the same questions, at one budget."""

    layer_tokens: int
    questions: int
    schedules: int


class CoursePart(Part):
    """How the schedule was found, on the searched half: the best of many looks better there than it is.

    answers: of all schedules that were tried, asked or taken from the records. dense: the dense model's score
    there, where a floor needs it; its answers come on top.
    """

    half: Literal["searched"] = "searched"
    answers: int
    dense: float | None
    rungs: list[RungPart]
    tried: list[TriedPart]


class TuneRun(Part):
    """This run alone. answered: new answers; resumed: answers that the records had before."""

    answered: int
    resumed: int
    wall_s: float


class TuneReport(ReportHeader):
    """One search. best_published: the arm with the best score of the published ones, on the reported half.

    unreachable: published methods that can't be had at this budget, and why. left_out: questions of the
    reported half that some arm has no answer to.
    """

    plain_nulls = ReportHeader.plain_nulls | {"floor", "best_published"}

    schema_: Literal["reroute.tune/2"] = Field(default="reroute.tune/2", alias="schema")
    asked: TuneAsked
    questions: TuneQuestions
    budget: BudgetPart
    found: FoundPart
    arms: list[TuneArm] = Field(min_length=2)
    best_published: str | None
    floor: FloorPart | None
    unreachable: dict[str, str]
    left_out: int
    errors: int
    first_error: str
    course: CoursePart
    this_run: TuneRun

    @model_validator(mode="after")
    def _names_its_arms(self) -> Self:
        names = [arm.name for arm in self.arms]
        if names[0] != DENSE_ARM or len(set(names)) != len(names):
            raise ValueError(f"the first arm is '{DENSE_ARM}' and names are unique; given {names}")
        for name in (self.found.arm, self.best_published or DENSE_ARM):
            if name not in names:
                raise ValueError(f"there is no arm '{name}' among {names}")
        return self

    def arm(self, name: str) -> TuneArm:
        """The arm of this name."""
        return next(arm for arm in self.arms if arm.name == name)
