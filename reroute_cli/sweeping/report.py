"""From answers and measured blocks to the report of a sweep.

Knows trials, scores, blocks and record parts; runs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from reroute_cli.answer import generation_part, model_part
from reroute_cli.arms import Arm, place_of
from reroute_cli.environment import describe_environment
from reroute_cli.evaluation.parts import NO_ANSWER, difference, differences, made_part, scores_part, whole
from reroute_cli.evaluation.score import Pictures, Score
from reroute_cli.evaluation.trial import Trial
from reroute_cli.metrics import METRICS, Kind
from reroute_cli.records.report import Report
from reroute_cli.records.sweep import (
    FAILED,
    RIGHT,
    WRONG,
    BeatenPart,
    FrontPart,
    MetricPart,
    PairPart,
    ScoreName,
    SweepArm,
    SweepCostPart,
    SweepCounts,
    SweepReport,
    SweepRun,
)
from reroute_cli.sweeping.arms import Reach
from reroute_cli.sweeping.costs import ArmCosts, CostJob, combined
from reroute_cli.sweeping.estimates import estimated
from reroute_cli.sweeping.front import Point, pareto_front, rival
from reroute_cli.sweeping.pairs import pairs_of

LEFT_OUT = ("agreement", *(name for name, metric in METRICS.items() if metric.shared))  # it has truths


@dataclass(frozen=True)
class Swept:
    """Everything that a sweep found. arms: all that were listed; source: of the questions, for people.

    against: the cost of the front, a metric.
    """

    arms: tuple[Arm, ...]
    reach: Reach
    source: dict[str, str]
    scores: tuple[Score, ...]
    trial: Trial
    job: CostJob
    blocks: Sequence[Report]
    against: str
    seed: int


def make_sweep(swept: Swept) -> SweepReport:
    """The whole report; its models check that nothing is missing."""
    trial, pictures = swept.trial, whole(swept.trial.rows)
    scores = [score for score in swept.scores if pictures.questions(score)]
    arms = _arms(swept, pictures, scores)
    return SweepReport(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=model_part(trial.request.loaded),
        source=swept.source,
        batch_size=trial.request.batch_size,
        max_new_tokens=trial.request.max_new_tokens,
        seed=swept.seed,
        generation=generation_part(trial.request.loaded, trial.request.max_new_tokens),
        counts=_counts(trial, pictures),
        this_run=SweepRun(
            answered=trial.course.answered, resumed=trial.course.resumed, wall_s=trial.course.wall_s
        ),
        costs=_cost_part(swept),
        scores=_score_names(pictures, scores),
        items=[row.id for row in trial.rows],
        items_digest=trial.items_digest,
        arms=arms,
        pairs=_pairs(swept, pictures, scores),
        fronts=[_front(swept, pictures, score, arms) for score in scores],
        first_error=next((tally.first_error for tally in trial.costs if tally.first_error), None),
        environment=describe_environment(trial.request.loaded.proven),
    )


def _score_names(pictures: Pictures, scores: Sequence[Score]) -> list[ScoreName]:
    """The scores; shown: the first share of each set of questions, or the first score without one."""
    seen: list[list[bool]] = []
    found = []
    for score in scores:
        questions = [score.of(row) for row in pictures.rows]
        shown = score.share and questions not in seen
        seen += [questions] if shown else []
        found.append(ScoreName(name=score.name, title=score.title, share=score.share, shown=shown))
    if found and not seen:
        found[0] = found[0].model_copy(update={"shown": True})
    return found


def _counts(trial: Trial, pictures: Pictures) -> SweepCounts:
    return SweepCounts(
        items=len(trial.rows),
        compared=len(pictures.rows),
        pictures=len(pictures.groups),
        answers=sum(tally.answered for tally in trial.costs),
        errors=trial.failed,
    )


def _cost_part(swept: Swept) -> SweepCostPart:
    plan = swept.job.plan
    return SweepCostPart(
        items=[block.workload.items[0].id for block in swept.blocks],
        new_tokens=plan.new_tokens,
        warmup=plan.warmup,
        rounds=plan.rounds,
    )


def _arms(swept: Swept, pictures: Pictures, scores: Sequence[Score]) -> list[SweepArm]:
    """Every listed arm, those that were not asked among them."""
    asked = {arm.name: place for place, arm in enumerate(swept.trial.arms)}
    costs = combined(swept.blocks) if swept.blocks else estimated(swept.trial)
    return [
        _asked(swept.trial, pictures, scores, asked[arm.name], costs[arm.name])
        if arm.name in asked
        else _refused(arm, swept.reach.refused[arm.name])
        for arm in swept.arms
    ]


def _asked(
    trial: Trial, pictures: Pictures, scores: Sequence[Score], place: int, costs: ArmCosts
) -> SweepArm:
    tally, made = trial.costs[place], scores_part(pictures, scores, trial.arms, place)
    average = tally.means().visual_tokens_per_layer if tally.answered else None
    return SweepArm(
        **_named(trial.arms[place]),
        refused=None,
        made=made_part(trial.schedules[place], tally),
        visual_tokens_per_layer=average,
        right="".join(_mark(row.said[place].verdict) for row in trial.rows),
        scores=made.scores,
        to_dense=made.to_dense,
        costs={name: _metric(costs, name) for name in costs.metrics if name not in LEFT_OUT},
        unknown={name: reason for name, reason in costs.unknown.items() if name not in LEFT_OUT},
        reasons={} if average is not None else {"visual_tokens_per_layer": NO_ANSWER},
    )


def _refused(arm: Arm, reason: str) -> SweepArm:
    nothing: dict[str, Any] = dict.fromkeys(("made", "visual_tokens_per_layer", "right"))
    return SweepArm(
        **_named(arm),
        refused=reason,
        **nothing,
        scores={},
        to_dense={},
        costs={},
        unknown={},
        reasons=dict.fromkeys(nothing, "the arm was asked nothing, see refused"),
    )


def _named(arm: Arm) -> dict[str, Any]:
    cuts = arm.choice.cuts
    return {
        "name": arm.name,
        "place": place_of(arm.choice) if arm.method else arm.name,
        "method": arm.method,
        "action": arm.action,
        "decision_layers": None if cuts is None else list(cuts),
        "ratio": arm.choice.ratio,
        "budget": arm.choice.budget,
    }


def _mark(verdict: object) -> str:
    right = getattr(verdict, "right", None)
    return FAILED if right is None else RIGHT if right else WRONG


def _metric(costs: ArmCosts, name: str) -> MetricPart:
    series, ratio = costs.metrics[name], costs.ratios.get(name)
    return MetricPart(
        unit=series.unit,
        source=series.source,
        value=series.p50 if METRICS[name].kind is Kind.TIMED else series.mean,
        n=series.n,
        ratio_to_dense=None if ratio is None else ratio.value,
        low=None if ratio is None else ratio.low,
        high=None if ratio is None else ratio.high,
    )


def _pairs(swept: Swept, pictures: Pictures, scores: Sequence[Score]) -> list[PairPart]:
    """Rerouting minus pruning, where the model reached both."""
    arms = swept.trial.arms
    place = {arm.name: number for number, arm in enumerate(arms)}
    return [
        PairPart(
            place=pair.place,
            ratio=pair.ratio,
            budget=pair.budget,
            prune=pair.prune.name,
            reroute=pair.reroute.name,
            scores=differences(pictures, scores, arms, place[pair.reroute.name], place[pair.prune.name]),
        )
        for pair in pairs_of(arms)
        if pair.prune is not None and pair.reroute is not None
    ]


def _front(swept: Swept, pictures: Pictures, score: Score, arms: Sequence[SweepArm]) -> FrontPart:
    """The front of one score, and which arm of it beats each of the others."""
    place = {arm.name: number for number, arm in enumerate(swept.trial.arms)}
    points = _points(arms, score.name, swept.against)
    front = pareto_front(points)
    beaten = []
    for point in points:
        if point in front:
            continue
        by = rival(point, front)
        part = difference(pictures, score, swept.trial.arms, place[point.name], place[by.name])
        assert part is not None
        beaten.append(BeatenPart(arm=point.name, by=by.name, score=part))
    return FrontPart(
        score=score.name, cost=swept.against, arms=[point.name for point in front], beaten=beaten
    )


def _points(arms: Sequence[SweepArm], score: str, cost: str) -> list[Point]:
    return [
        Point(arm.name, arm.costs[cost].value, arm.scores[score].value)
        for arm in arms
        if cost in arm.costs and score in arm.scores
    ]
