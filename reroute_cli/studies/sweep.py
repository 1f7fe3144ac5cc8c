"""A sweep from beginning to end: which arms can be had, their answers, their costs, the report, the fronts.

`sweep` asks and measures, in the order of this file; `make_sweep` and what follows it only compare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from reroute_cli.console.errors import Failure
from reroute_cli.data.items import Item, spread
from reroute_cli.measure.environment import describe_environment
from reroute_cli.records.sweep import (
    FAILED,
    RIGHT,
    WRONG,
    BeatenPart,
    FrontPart,
    PairPart,
    ScoreName,
    SweepArm,
    SweepCostPart,
    SweepCounts,
    SweepReport,
    SweepRun,
    pairs_of,
)
from reroute_cli.run.answer import generation_part, model_part
from reroute_cli.run.features import FeatureStore
from reroute_cli.run.schedules import Arm, place_of
from reroute_cli.run.trial import Trial, hold_trial, target_for
from reroute_cli.studies import SILENT, StudyProgress
from reroute_cli.studies.profile import MeasurePlan
from reroute_cli.studies.questions import (
    NO_ANSWER,
    Subject,
    difference,
    differences,
    hard_parts,
    headlines,
    made_part,
    scores_part,
    whole,
)
from reroute_cli.studies.sweep_costs import CostJob, combined, estimated, measure_costs
from routing.errors import BudgetError

if TYPE_CHECKING:
    from reroute_cli.console.options import RunOptions
    from reroute_cli.console.study_options import CostOptions
    from reroute_cli.measure.scores import JudgedImages, Score
    from reroute_cli.models.load import Loaded
    from reroute_cli.records.report import Report
    from reroute_cli.records.store import RecordFile
    from reroute_cli.studies.benchmarks.benchmark import Questions
    from reroute_cli.studies.profile import MeasurePlan
    from reroute_cli.studies.questions import Subject
    from routing.solve import Target

_LOOKED_AT = 8  # items at most, in search of one that can be read


@dataclass(frozen=True)
class SweepRequest:
    """What a sweep is asked for.

    scores: what answers may be judged by; those of nothing here fall out. cost_items: how many items are
    measured, 0 leaves costs estimated. plan: how. against: the cost that scores are held against, a name
    of METRICS. seed: noted in the report. subset: as of a subject. feature_cache: bytes in which encoded
    images are kept for all answers; costs are measured without.
    """

    scores: tuple[Score, ...]
    max_new_tokens: int
    batch_size: int
    cost_items: int
    plan: MeasurePlan
    against: str
    seed: int
    subset: str | None = None
    feature_cache: int = 0

    @classmethod
    def of(cls, subject: Subject, run: RunOptions, costs: CostOptions, seed: int) -> SweepRequest:
        """What options ask for; the longest answer is the benchmark's where they say none."""
        from reroute_cli.studies.profile import MeasurePlan

        return cls(
            subject.benchmark.scores,
            run.max_new_tokens or subject.benchmark.max_new_tokens,
            run.batch_size,
            costs.cost_items,
            MeasurePlan(costs.cost_tokens, costs.warmup, costs.repeat),
            costs.metric,
            seed,
            subject.subset,
            run.feature_cache,
        )


def sweep(
    loaded: Loaded,
    questions: Questions,
    arms: Sequence[Arm],
    request: SweepRequest,
    file: RecordFile,
    *,
    say: Callable[[str], None] = lambda _: None,
    progress: StudyProgress = SILENT,
) -> SweepReport:
    """Ask every question under every arm that the model reaches, measure what each costs, and compare.

    Args:
        loaded: the model.
        questions: with their ground truth.
        arms: the schedules, the dense arm first; see `arms_of`.
        request: lengths, sizes, scores.
        file: keeps answers and measured blocks; what it holds already is not asked again.
        say: gets one sentence on what is going to be done.
        progress: told what is going on, and of every answer.

    Raises:
        Failure: the model reaches no arm but the dense one.
    """
    if not isinstance(questions.items, Sequence):  # a stream: measured items are needed a second time
        items = tuple(questions.items)
        questions = replace(questions, items=items, count=len(items))
    assert isinstance(questions.items, Sequence)
    probes = _probes(loaded, questions.items, request.cost_items)
    found = reach(arms, [target for _, target in probes])
    if len(found.arms) == 1 and len(arms) > 1:
        raise Failure(f"the model can reach none of the arms: {next(iter(found.refused.values()))}")
    number, asked = questions.count or 0, len(found.arms)
    left = f"; {len(arms) - asked} more can't be reached" if len(arms) > asked else ""
    say(f"{number} questions under {asked} arms, {number * asked} answers{left}")
    measured = tuple(item for item, _ in probes[: request.cost_items])
    job = CostJob(loaded, found.arms, measured, request.plan, request.seed)
    progress.expect(number * asked + len(job.items) * job.steps)
    progress.tell("answering")
    trial = hold_trial(
        loaded,
        found.arms,
        questions.items,
        file,
        max_new_tokens=request.max_new_tokens,
        batch_size=request.batch_size,
        done=progress.done,
        store=FeatureStore(request.feature_cache, loaded.device),
    )
    blocks = measure_costs(job, file, progress.tell, progress.done)
    progress.tell("comparing")
    return make_sweep(Swept(tuple(arms), found.refused, questions.source, trial, blocks), request)


def _probes(loaded: Loaded, items: Sequence[Item], wanted: int) -> list[tuple[Item, Target]]:
    """The items that costs are measured on, spread evenly, with what a schedule for each must fit.

    An item that can't be read gives its place to the next one that can; one item at least is looked at.
    """
    found: list[tuple[Item, Target]] = []
    for start in spread(len(items), max(1, wanted)):
        near = islice(items, start, start + _LOOKED_AT)
        fresh = (item for item in near if item not in [taken for taken, _ in found])
        read = ((item, target_for(loaded, item)) for item in fresh)
        made = next(((item, target) for item, target in read if target is not None), None)
        if made is not None:
            found.append(made)
    return found


@dataclass(frozen=True)
class Reach:
    """Arms that can be asked, the dense one first, and why the others cannot, by name."""

    arms: tuple[Arm, ...]
    refused: dict[str, str]


def reach(arms: Iterable[Arm], targets: Sequence[Target]) -> Reach:
    """Which arms meet their amount on every one of these prompts.

    Raises ScheduleError for layers that the model or the method does not have: no amount would help.
    """
    able, refused = [], {}
    for arm in arms:
        try:
            for target in targets:
                arm.choice.build(target)
        except BudgetError as error:
            refused[arm.name] = str(error)
        else:
            able.append(arm)
    return Reach(tuple(able), refused)


@dataclass(frozen=True)
class Swept:
    """All that a sweep asked and measured, and what it did not ask.

    arms: all that were listed; refused: why some of them were not asked, by name. source: of the questions,
    for people. blocks: a report of each measured item, none where costs are estimated.
    """

    arms: tuple[Arm, ...]
    refused: dict[str, str]
    source: dict[str, str]
    trial: Trial
    blocks: Sequence[Report]


def make_sweep(swept: Swept, request: SweepRequest) -> SweepReport:
    """The whole report; its models check that nothing is missing."""
    trial, images = swept.trial, whole(swept.trial.rows)
    loaded, plan = trial.request.loaded, request.plan
    scores = [score for score in request.scores if images.questions(score)]
    # the first share of each set of questions, or the first score where none is a share
    shown = headlines(images.rows, [score for score in scores if score.share])
    shown = shown or [score.name for score in scores[:1]]
    arms = _arms(swept, images, scores)
    places = {arm.name: place for place, arm in enumerate(trial.arms)}
    return SweepReport(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=model_part(loaded),
        provenance=swept.source,
        batch_size=trial.request.batch_size,
        max_new_tokens=trial.request.max_new_tokens,
        seed=request.seed,
        generation=generation_part(loaded, trial.request.max_new_tokens),
        counts=SweepCounts(
            items=len(trial.rows),
            compared=len(images.rows),
            images=len(images.groups),
            answers=sum(tally.answered for tally in trial.costs),
            errors=trial.failed,
        ),
        this_run=SweepRun(
            answered=trial.counts.answered, resumed=trial.counts.resumed, wall_s=trial.counts.wall_s
        ),
        costs=SweepCostPart(
            items=[block.workload.items[0].id for block in swept.blocks],
            new_tokens=plan.new_tokens,
            warmup=plan.warmup,
            rounds=plan.rounds,
        ),
        scores=[
            ScoreName(name=score.name, title=score.title, share=score.share, shown=score.name in shown)
            for score in scores
        ],
        items=[row.id for row in trial.rows],
        items_digest=trial.items_digest,
        arms=arms,
        pairs=[  # rerouting minus pruning, where the model reached both
            PairPart(
                place=pair.place,
                ratio=pair.ratio,
                budget=pair.budget,
                prune=pair.prune.name,
                reroute=pair.reroute.name,
                scores=differences(
                    images, scores, trial.arms, places[pair.reroute.name], places[pair.prune.name]
                ),
            )
            for pair in pairs_of(trial.arms, lambda arm: arm.asked)
            if pair.prune is not None and pair.reroute is not None
        ],
        fronts=[_front(trial.arms, images, score, arms, request.against) for score in scores],
        first_error=next((tally.first_error for tally in trial.costs if tally.first_error), None),
        subsets=hard_parts(images, scores, trial.arms) if request.subset else [],
        environment=describe_environment(loaded.proven),
    )


def _arms(swept: Swept, images: JudgedImages, scores: Sequence[Score]) -> list[SweepArm]:
    """Every listed arm, those that were not asked among them."""
    trial = swept.trial
    places = {arm.name: place for place, arm in enumerate(trial.arms)}
    costs = combined(swept.blocks) if swept.blocks else estimated(trial)
    nothing: dict[str, Any] = dict.fromkeys(("made", "visual_tokens_per_layer", "right"))
    parts = []
    for arm in swept.arms:
        layers = arm.choice.layers
        named: dict[str, Any] = {
            "name": arm.name,
            "place": place_of(arm.choice) if arm.method else arm.name,
            "method": arm.method,
            "action": arm.action,
            "decision_layers": None if layers is None else list(layers),
            "ratio": arm.choice.ratio,
            "budget": arm.choice.budget,
        }
        if arm.name not in places:
            reasons = dict.fromkeys(nothing, "the arm was asked nothing, see refused")
            found = nothing | {"scores": {}, "to_dense": {}, "costs": {}, "unknown": {}, "reasons": reasons}
        else:
            place = places[arm.name]
            tally, judged = trial.costs[place], scores_part(images, scores, trial.arms, place)
            average = tally.means().visual_tokens_per_layer if tally.answered else None
            verdicts = [row.said[place].verdict for row in trial.rows]
            found = {
                "made": made_part(trial.schedules[place], tally),
                "visual_tokens_per_layer": average,
                "right": "".join(
                    FAILED if one is None else RIGHT if one.right else WRONG for one in verdicts
                ),
                "scores": judged.scores,
                "to_dense": judged.to_dense,
                "costs": costs[arm.name].parts(),
                "unknown": costs[arm.name].why_not(),
                "reasons": {} if average is not None else {"visual_tokens_per_layer": NO_ANSWER},
            }
        parts.append(SweepArm(**named, refused=swept.refused.get(arm.name), **found))
    return parts


def _front(
    asked: Sequence[Arm], images: JudgedImages, score: Score, arms: Sequence[SweepArm], cost: str
) -> FrontPart:
    """The front of one score, and which arm of it beats each of the others."""
    place = {arm.name: number for number, arm in enumerate(asked)}
    points = [
        CostPoint(arm.name, arm.costs[cost].value, arm.scores[score.name].value)
        for arm in arms
        if cost in arm.costs and score.name in arm.scores
    ]
    front = pareto_front(points)
    beaten = []
    for point in points:
        if point in front:
            continue
        by = rival(point, front)
        part = difference(images, score, asked, place[point.name], place[by.name])
        assert part is not None
        beaten.append(BeatenPart(arm=point.name, by=by.name, score=part))
    return FrontPart(score=score.name, cost=cost, arms=[point.name for point in front], beaten=beaten)


@dataclass(frozen=True)
class CostPoint:
    """One arm beside others. cost: less is better. score: more is better."""

    name: str
    cost: float
    score: float

    def beats(self, other: CostPoint) -> bool:
        """Nowhere worse, and somewhere better."""
        nowhere_worse = self.cost <= other.cost and self.score >= other.score
        return nowhere_worse and (self.cost < other.cost or self.score > other.score)


def pareto_front(points: Sequence[CostPoint]) -> list[CostPoint]:
    """The points that no other beats on score and cost at once, cheapest first; equal ones stay together."""
    found: list[CostPoint] = []
    best = float("-inf")
    for point in sorted(points, key=lambda point: (point.cost, -point.score)):
        if point.score > best or (found and (point.cost, point.score) == (found[-1].cost, found[-1].score)):
            found.append(point)
            best = point.score
    return found


def rival(point: CostPoint, front: Sequence[CostPoint]) -> CostPoint:
    """The point of the front that beats this one by the highest score at no more cost."""
    better = [other for other in front if other.beats(point)]
    return max(better, key=lambda other: (other.score, -other.cost))
