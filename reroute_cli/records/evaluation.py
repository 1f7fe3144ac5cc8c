"""The report of `reroute eval`, `reroute.eval/2`: how good answers are under each schedule, how surely.

Several arms, the dense one first, over the same questions; every share with its interval, every difference
paired. Does not know how anything was measured.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from reroute_cli.records.answer import SchedulePart
from reroute_cli.records.base import Part, ReportHeader, Section
from reroute_cli.records.batch import MeansPart
from reroute_cli.records.metrics import DENSE_ARM

SCHEMA = "reroute.eval/2"


class QuestionsPart(Section):
    """What was asked. provenance: where the questions come from: a hub id with its revision, or a file.

    benchmark: its name, or "manifest". asked, available: how many, of how many. digest: SHA-256 over ids,
    images' bytes, questions as asked and truths; the same under any model.
    """

    benchmark: str
    title: str
    split: str
    provenance: dict[str, str]
    asked: int
    available: int | None
    digest: str


class EvaluationWorkload(Part):
    """What was run: two reports are about the same thing when these, models and the arms' choices are equal.

    batch_size decides no answer, but the speed.
    """

    questions: QuestionsPart
    max_new_tokens: int
    batch_size: int
    seed: int


class EvaluationCounts(Part):
    """Answers and what became of them, over all arms.

    left_out: questions to which some arm has no answer. They count in no score and no difference.
    """

    questions: int
    answered: int
    errors: int
    left_out: int


class EvaluationRun(Part):
    """This run alone. resumed: answers that the file of records had before. waiting_s: for images."""

    answered: int
    resumed: int
    wall_s: float
    waiting_s: float


class EvaluationArm(Part):
    """One schedule. groups: its scores by kind of question, where the questions have kinds.

    cost: null where it answered nothing.
    """

    name: str
    choice: ArmChoicePart
    made: MadePart
    overall: ScoresPart
    groups: dict[str, ScoresPart]
    cost: CostPart | None


class TruthPart(Part):
    """What is true. kind: how it is judged. box: pixels of the image. options: letters with their texts."""

    kind: str
    answers: list[str]
    options: list[tuple[str, str]]
    box: tuple[float, float, float, float] | None


class SaidPart(Part):
    """One arm's answer to a question. right: null where error says why there is none.

    box: the first one in the answer, which is the one that is judged. iou, centre: of true boxes only.
    read: what a judge of words read in the answer, where it says so.
    """

    answer: str
    right: bool | None
    box: tuple[float, float, float, float] | None
    iou: float | None
    centre: bool | None
    read: str | None
    error: str | None


class EvaluationItem(Part):
    """One question, word for word as it was asked. said: by the arm's name. truth: null where unreadable."""

    id: str
    image: str
    question: str
    group: str
    truth: TruthPart | None
    said: dict[str, SaidPart]


class Evaluation(ReportHeader):
    """One run of `eval`.

    headlines: names of the scores to look at first, one for each set of questions. first_error: the first
    failed question with its sentence; null where none failed. subsets: where they were asked for.
    """

    plain_nulls = ReportHeader.plain_nulls | {"first_error"}

    schema_: Literal["reroute.eval/2"] = Field(default="reroute.eval/2", alias="schema")
    workload: EvaluationWorkload
    counts: EvaluationCounts
    headlines: list[str]
    arms: list[EvaluationArm] = Field(min_length=1)
    items: list[EvaluationItem]
    this_run: EvaluationRun
    first_error: str | None
    subsets: list[SubsetPart] = Field(default_factory=list)

    @model_validator(mode="after")
    def _arms_and_items_fit(self) -> Self:
        names = [arm.name for arm in self.arms]
        if names[0] != DENSE_ARM or len(set(names)) != len(names):
            raise ValueError(f"the first arm is '{DENSE_ARM}' and names are unique; given {names}")
        for item in self.items:
            if list(item.said) != names:
                raise ValueError(f"the item '{item.id}' has answers of {list(item.said)}, not of {names}")
        return self

    @property
    def dense(self) -> EvaluationArm:
        """The arm that every other is compared with."""
        return self.arms[0]


class ScorePart(Section):
    """A score of one arm: of n questions about so many images, with its 95% confidence interval.

    images: those that questions show together, directly or through others, count as one.
    interval: "wilson" of a share of right answers, for n / design_effect questions, since those about one
    image are not independent; "bootstrap" over images of everything else. low, high: null with a reason.
    """

    plain_nulls = frozenset({"design_effect"})

    title: str
    value: float
    low: float | None
    high: float | None
    n: int
    images: int
    interval: Literal["wilson", "bootstrap"]
    design_effect: float | None


class DifferencePart(Section):
    """A score of this arm minus that of another, `base`, over the same questions.

    low, high: paired bootstrap over images, 95%, counted as in a score. Of shares of right answers also the
    exact McNemar test: only_this and only_base are the questions that one of the two alone answered right.
    """

    plain_nulls = frozenset({"only_this", "only_base", "mcnemar_p"})

    base: str
    title: str
    value: float
    low: float | None
    high: float | None
    n: int
    images: int
    only_this: int | None
    only_base: int | None
    mcnemar_p: float | None

    @property
    def is_real(self) -> bool:
        """Whether the interval leaves 0 out; without an interval nothing is shown."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


class ScoresPart(Part):
    """The scores of one arm by name, and its differences from the dense arm and from its pruning twin.

    Both differences are empty for the dense arm; to_prune is there for rerouting arms of which the run has
    the same method and amount under prune.
    """

    scores: dict[str, ScorePart]
    to_dense: dict[str, DifferencePart]
    to_prune: dict[str, DifferencePart]


class SubsetPart(Part):
    """The questions that dense answers right and the arm `control`, whose images are smaller, wrong.

    n: of them, of `compared` that every arm answered; few: they show too few images to tell arms apart.
    arms: by name, shares of right answers on them, of the dense arm (all right), of `control` (none), and of
    all arms at its amount.
    """

    name: Literal["hard"]
    control: str
    compared: int
    n: int
    images: int
    few: bool
    arms: dict[str, ScoresPart]


class CostPart(MeansPart):
    """Means over an arm's answers. The ratios are to the same answers without a schedule, by arithmetic."""

    prefill_flops_ratio: float | None
    kv_end_ratio: float


class ArmChoicePart(Part):
    """Which schedule an arm is. ratio: reduction ratio asked for. All null for the dense arm.

    decision_layers: where they were chosen in place of the method's own. settings: of the method, where set.
    """

    method: str | None
    action: str | None
    profile: str | None
    ratio: float | None
    budget: float | None
    decision_layers: list[int] | None
    settings: dict[str, bool | int | float | str] = Field(default_factory=dict)


class MadePart(Section):
    """What became of an arm's choice. first: the schedule of the first answered item, with its stages.

    achieved_ratio: over all answers. schedules: how many different ones the items' visual tokens led to.
    ended_by_limit: answers that the limit of new tokens ended.
    """

    schedules: int
    ended_by_limit: int
    achieved_ratio: float | None
    first: SchedulePart | None

    @property
    def saves_nothing(self) -> bool:
        """Whether images were made smaller and still have as many visual tokens."""
        return self.first is not None and self.first.resized is not None and not self.achieved_ratio
