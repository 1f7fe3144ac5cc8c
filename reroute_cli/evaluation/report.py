"""From a trial to the report of `eval`, `reroute.eval/2`.

Knows trials, scores and the record's parts; asks nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from reroute_cli.answer import generation_part, model_part
from reroute_cli.benchmarks.benchmark import Questions
from reroute_cli.environment import describe_environment
from reroute_cli.evaluation.parts import choice_part, cost_part, made_part, scores_part, whole
from reroute_cli.evaluation.score import Pictures, Score
from reroute_cli.evaluation.subject import Subject
from reroute_cli.evaluation.trial import Row, Said, Trial
from reroute_cli.judges import Truth
from reroute_cli.records.evaluation import (
    Evaluation,
    EvaluationArm,
    EvaluationCounts,
    EvaluationItem,
    EvaluationRun,
    EvaluationWorkload,
    QuestionsPart,
    SaidPart,
    TruthPart,
)


@dataclass(frozen=True)
class Asked:
    """What was asked about, as the command resolved it."""

    subject: Subject
    questions: Questions
    seed: int


def make_evaluation(trial: Trial, asked: Asked) -> Evaluation:
    """The whole report; its models check that nothing is missing."""
    overall = whole(trial.rows)
    answered = sum(tally.answered for tally in trial.costs)
    return Evaluation(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=model_part(trial.request.loaded),
        environment=describe_environment(trial.request.loaded.proven),
        generation=generation_part(trial.request.loaded, trial.request.max_new_tokens),
        workload=_workload(trial, asked),
        counts=EvaluationCounts(
            questions=len(trial.rows),
            answered=answered,
            errors=trial.failed,
            left_out=len(trial.rows) - len(overall.rows),
        ),
        headlines=headlines(overall.rows, asked.subject.benchmark.scores),
        arms=_arms(trial, overall, asked.subject.benchmark.scores),
        items=[_item(trial, row) for row in trial.rows],
        this_run=EvaluationRun(
            answered=trial.course.answered,
            resumed=trial.course.resumed,
            wall_s=trial.course.wall_s,
            waiting_s=trial.course.waiting_s,
        ),
        first_error=_first_error(trial.rows),
    )


def headlines(rows: Sequence[Row], scores: Sequence[Score]) -> list[str]:
    """The first score of each set of questions, by name: of boxes, of words."""
    first: dict[tuple[bool, ...], str] = {}
    for score in scores:
        of = tuple(score.of(row) for row in rows)
        if any(of):
            first.setdefault(of, score.name)
    return list(first.values())


def _workload(trial: Trial, asked: Asked) -> EvaluationWorkload:
    request, benchmark, questions = trial.request, asked.subject.benchmark, asked.questions
    unknown = (
        {} if questions.available is not None else {"available": "the source does not say how many it has"}
    )
    return EvaluationWorkload(
        questions=QuestionsPart(
            benchmark=benchmark.name,
            title=benchmark.title,
            split=asked.subject.split,
            source=questions.source,
            asked=len(trial.rows),
            available=questions.available,
            digest=trial.items_digest,
            reasons=unknown,
        ),
        max_new_tokens=request.max_new_tokens,
        batch_size=request.batch_size,
        seed=asked.seed,
    )


def _arms(trial: Trial, overall: Pictures, scores: Sequence[Score]) -> list[EvaluationArm]:
    groups = {name: Pictures([row for row in overall.rows if row.group == name]) for name in _groups(overall)}
    return [
        EvaluationArm(
            name=arm.name,
            choice=choice_part(arm),
            made=made_part(trial.schedules[place], trial.costs[place]),
            overall=scores_part(overall, scores, trial.arms, place),
            groups={name: scores_part(some, scores, trial.arms, place) for name, some in groups.items()},
            cost=cost_part(trial.costs[place]),
        )
        for place, arm in enumerate(trial.arms)
    ]


def _groups(overall: Pictures) -> list[str]:
    """The kinds of question, in the order in which they come; none where there is only one."""
    found = list(dict.fromkeys(row.group for row in overall.rows))
    return found if len(found) > 1 else []


def _item(trial: Trial, row: Row) -> EvaluationItem:
    said = zip(trial.arms, row.said, strict=True)
    return EvaluationItem(
        id=row.id,
        image=row.image,
        question=row.question,
        group=row.group,
        truth=None if row.truth is None else _truth(row.truth),
        said={arm.name: _said(one) for arm, one in said},
    )


def _truth(truth: Truth) -> TruthPart:
    return TruthPart(kind=truth.kind, answers=list(truth.answers), options=list(truth.options), box=truth.box)


def _said(said: Said) -> SaidPart:
    verdict = said.verdict
    return SaidPart(
        answer=said.answer,
        right=None if verdict is None else verdict.right,
        box=said.box,
        iou=None if verdict is None else verdict.iou,
        centre=None if verdict is None else verdict.centre,
        read=None if verdict is None else verdict.said,
        error=said.error,
    )


def _first_error(rows: Sequence[Row]) -> str | None:
    failed = (f"{row.id}: {said.error}" for row in rows for said in row.said if said.error is not None)
    return next(failed, None)
