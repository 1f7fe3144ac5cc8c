"""The parts of a record that say how good answers are: scores, differences, what the answers took.

Shared by every record that compares arms. Does not know how anything was measured.
"""

from __future__ import annotations

from typing import Literal

from reroute_cli.records.answer import SchedulePart
from reroute_cli.records.base import Part, Section
from reroute_cli.records.batch import MeansPart


class ScorePart(Section):
    """A score of one arm: of n questions about so many pictures, with its 95% interval.

    pictures: those that questions show together, directly or through others, count as one.
    interval: "wilson" of a share of right answers, for n / design_effect questions, since those about one
    picture are not independent; "bootstrap" over pictures of everything else. low, high: null with a reason.
    """

    plain_nulls = frozenset({"design_effect"})

    title: str
    value: float
    low: float | None
    high: float | None
    n: int
    pictures: int
    interval: Literal["wilson", "bootstrap"]
    design_effect: float | None


class DifferencePart(Section):
    """A score of this arm minus that of another, `base`, over the same questions.

    low, high: paired bootstrap over pictures, 95%, counted as in a score. Of shares of right answers also the
    exact McNemar test: only_this and only_base are the questions that one of the two alone answered right.
    """

    plain_nulls = frozenset({"only_this", "only_base", "mcnemar_p"})

    base: str
    title: str
    value: float
    low: float | None
    high: float | None
    n: int
    pictures: int
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


class CostPart(MeansPart):
    """Means over an arm's answers. The ratios are to the same answers without a schedule, by arithmetic."""

    prefill_flops_ratio: float | None
    kv_end_ratio: float


class ArmChoicePart(Part):
    """Which schedule an arm is. ratio: reduction ratio asked for. All null for the dense arm.

    decision_layers: where they were chosen in place of the method's own.
    """

    method: str | None
    action: str | None
    profile: str | None
    ratio: float | None
    budget: float | None
    decision_layers: list[int] | None


class MadePart(Section):
    """What became of an arm's choice. first: the schedule of the first answered item, with its stages.

    achieved_ratio: over all answers. schedules: how many different ones the items' visual tokens led to.
    ended_by_limit: answers that the limit of new tokens ended.
    """

    schedules: int
    ended_by_limit: int
    achieved_ratio: float | None
    first: SchedulePart | None
