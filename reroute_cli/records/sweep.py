"""The report of a sweep, `reroute.sweep/2`, and the record of one measured block, `reroute.cost/2`.

A sweep holds every arm's answers as right or wrong, item by item, so that whoever reads it can make their own
comparison; its scores, differences and costs are in it as well. `pairs_of` says which arms belong side by
side: the same method at the same amount, pruned and rerouted. Does not know how anything was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, Self, TypeVar

from pydantic import Field, model_validator

from reroute_cli.records.base import Part, ReportHeader, Section, Source
from reroute_cli.records.evaluation import DifferencePart, MadePart, ScorePart, SubsetPart
from reroute_cli.records.metrics import DENSE_ARM
from reroute_cli.records.report import Report

RIGHT, WRONG, FAILED = "1", "0", "-"
A = TypeVar("A")


class CostBlock(Part):
    """One item measured under every arm, interleaved; a line of the records file. id: the item's."""

    schema_: Literal["reroute.cost/2"] = Field(default="reroute.cost/2", alias="schema")
    id: str
    key: str
    report: Report
    error: None = None


class MetricPart(Section):
    """One metric of one arm: a time's median over items and rounds, the mean over items of all else.

    ratio_to_dense: the arm's over the dense arm's; low, high: its 95% confidence interval, from values of the
    same item and round.
    """

    plain_nulls = frozenset({"ratio_to_dense", "low", "high"})

    unit: str
    source: Source
    value: float
    n: int
    ratio_to_dense: float | None
    low: float | None
    high: float | None


class SweepArm(Section):
    """One schedule over all items. place: the method, with decision layers and settings if they were typed.

    refused: why the model can't reach what was asked, in one sentence; such an arm was asked nothing.
    made: what came of the schedule. visual_tokens_per_layer: counted, mean over all answers.
    right: a character an item, in the order of `items`: 1 right, 0 wrong, - no answer.
    scores: over the items that every arm has answered; to_dense: this arm minus the dense one.
    costs: by metric; unknown: the other metrics, with the reason.
    """

    plain_nulls = frozenset({"method", "action", "decision_layers", "ratio", "budget", "refused"})

    name: str
    place: str
    method: str | None
    action: str | None
    decision_layers: list[int] | None
    ratio: float | None
    budget: float | None
    refused: str | None
    made: MadePart | None
    visual_tokens_per_layer: float | None
    right: str | None
    scores: dict[str, ScorePart]
    to_dense: dict[str, DifferencePart]
    costs: dict[str, MetricPart]
    unknown: dict[str, str]


class PairPart(Part):
    """One method at one amount, pruned and rerouted. scores: the rerouted arm minus the pruned one."""

    place: str
    ratio: float | None
    budget: float | None
    prune: str
    reroute: str
    scores: dict[str, DifferencePart]


class BeatenPart(Part):
    """An arm that is not on the front. by: the arm of the front that beats it, by the highest score.

    score: this arm minus that one; where its confidence interval contains 0 the two can't be told apart.
    """

    arm: str
    by: str
    score: DifferencePart


class FrontPart(Part):
    """The arms that nobody beats on this score and this cost (a metric) at once, cheapest first."""

    score: str
    cost: str
    arms: list[str]
    beaten: list[BeatenPart]


class SweepCounts(Part):
    """Items, and what became of them. compared: answered by every arm that was asked; scores are of these.

    answers, errors: over all arms.
    """

    items: int
    compared: int
    images: int
    answers: int
    errors: int


class SweepRun(Part):
    """This run alone. resumed: answers that the records file had before."""

    answered: int
    resumed: int
    wall_s: float


class SweepCostPart(Part):
    """How costs were measured; items: ids, none where costs are estimated from the answers."""

    items: list[str]
    new_tokens: int
    warmup: int
    rounds: int


class ScoreName(Part):
    """A score. title: as people read it. share: of right answers, so that McNemar's test applies.

    shown: the first share of its questions, which tables and plots show; the others say more of the same.
    """

    name: str
    title: str
    share: bool
    shown: bool


class SweepReport(ReportHeader):
    """One run of `sweep`. provenance: of the questions. first_error: of the first answer that failed.

    items: the ids of all questions; items_digest: SHA-256 over what was asked, the same under any model.
    subsets: one for each amount, where they were asked for.
    """

    plain_nulls = ReportHeader.plain_nulls | {"first_error"}

    schema_: Literal["reroute.sweep/2"] = Field(default="reroute.sweep/2", alias="schema")
    provenance: dict[str, str]
    batch_size: int
    max_new_tokens: int
    seed: int
    counts: SweepCounts
    this_run: SweepRun
    costs: SweepCostPart
    scores: list[ScoreName]
    items: list[str]
    items_digest: str
    arms: list[SweepArm] = Field(min_length=1)
    pairs: list[PairPart]
    fronts: list[FrontPart]
    first_error: str | None
    subsets: list[SubsetPart] = Field(default_factory=list)

    @model_validator(mode="after")
    def _arms_share_the_items(self) -> Self:
        names = [arm.name for arm in self.arms]
        if names[0] != DENSE_ARM or len(set(names)) != len(names):
            raise ValueError(f"the first arm is '{DENSE_ARM}' and names are unique; given {names}")
        for arm in self.arms:
            if arm.right is not None and len(arm.right) != len(self.items):
                raise ValueError(f"{arm.name} has {len(arm.right)} answers to {len(self.items)} items")
        return self

    @property
    def asked(self) -> list[SweepArm]:
        """The arms that the model could reach, the dense one first."""
        return [arm for arm in self.arms if arm.refused is None]

    @property
    def shown(self) -> list[ScoreName]:
        """The scores that tables and plots show."""
        return [score for score in self.scores if score.shown]

    def arm(self, name: str) -> SweepArm:
        """The arm of this name."""
        return next(arm for arm in self.arms if arm.name == name)


class Asked(NamedTuple):
    """What was asked of an arm. place: its method, with decision layers and settings if they were typed.

    It is 'fastv', 'fastv@3+5', 'sparsevlm:version=2' or 'sparsevlm@3+7:version=2'.
    """

    name: str
    place: str
    method: str | None
    action: str | None
    ratio: float | None
    budget: float | None
    layers: Sequence[int] | None

    def key(self, depth: int | None) -> tuple[object, ...]:
        """All of it but the action, with the first `depth` of its decision layers."""
        layers = None if self.layers is None else tuple(self.layers[:depth])
        return self.method, self.place.partition(":")[2], self.ratio, self.budget, layers


@dataclass(frozen=True)
class ActionPair(Generic[A]):
    """One method at one amount, pruned and rerouted; at least one of the two is there.

    place: the method, with decision layers where they were typed: 'fastv', 'fastv@3', 'fastv@3·3+5+8'.
    prune: also of a method that has no action, since images made smaller are gone for good as well.
    """

    place: str
    ratio: float | None
    budget: float | None
    prune: A | None
    reroute: A | None


def pairs_of(arms: Iterable[A], asked_of: Callable[[A], Asked]) -> tuple[ActionPair[A], ...]:
    """Every routed arm once, in the order of the first of each pair.

    A rerouted arm stands beside the pruned one with the same decision layers. Where there is none, it stands
    beside the pruned one whose first layer is its own: as many layers are dense in both.
    """
    asked = [(asked_of(arm), arm) for arm in arms]
    routed = [(one, arm) for one, arm in asked if one.method is not None]
    partner: dict[str, tuple[Asked, A]] = {}  # of either, by name
    for depth in (None, 1):  # how many decision layers must be the same: all, then the first
        for one, arm in routed:
            if one.action != "reroute" or one.name in partner:
                continue
            free = (other for other in routed if other[0].action == "prune" and other[0].name not in partner)
            match = next((other for other in free if other[0].key(depth) == one.key(depth)), None)
            if match is not None:
                partner |= {one.name: match, match[0].name: (one, arm)}
    found = []
    for one, arm in routed:
        other = partner.get(one.name)
        if one.action != "reroute":
            place = one.place
            if other is not None and other[0].key(None) != one.key(None):
                place += f"·{'+'.join(map(str, other[0].layers or ()))}"
            found.append(ActionPair(place, one.ratio, one.budget, arm, None if other is None else other[1]))
        elif other is None:
            found.append(ActionPair(one.place, one.ratio, one.budget, None, arm))
    return tuple(found)
