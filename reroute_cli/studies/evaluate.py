"""How good answers are under each schedule: questions asked, answers judged, compared with dense.

The parts that it shares with other reports of judged answers are in score_parts.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reroute_cli.measure.environment import describe_environment
from reroute_cli.measure.scores import JudgedImages, JudgedItem, Score
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
from reroute_cli.run.answer import generation_part, model_part
from reroute_cli.run.features import FeatureStore
from reroute_cli.run.trial import Trial, checked, hold_trial
from reroute_cli.studies import SILENT, StudyProgress
from reroute_cli.studies.questions import (
    choice_part,
    cost_part,
    hard_parts,
    headlines,
    made_part,
    scores_part,
    whole,
)

if TYPE_CHECKING:
    from reroute_cli.console.options import RunOptions
    from reroute_cli.models.load import Loaded
    from reroute_cli.records.store import RecordFile
    from reroute_cli.run.schedules import Arm
    from reroute_cli.studies.benchmarks.benchmark import Questions
    from reroute_cli.studies.questions import Subject


def evaluate(
    loaded: Loaded,
    subject: Subject,
    questions: Questions,
    arms: Sequence[Arm],
    run: RunOptions,
    file: RecordFile,
    *,
    seed: int = 0,
    progress: StudyProgress = SILENT,
) -> Evaluation:
    """Ask every question under every arm, judge the answers, and compare the arms pair by pair.

    Args:
        loaded: the model.
        subject: the benchmark and which of its questions, see `subject_of`.
        questions: those, with what is true of each; see `Subject.questions`.
        arms: the schedules, the dense arm first; see `arms_of`.
        run: how they are answered; the longest answer is the benchmark's where it says none.
        file: keeps the answers; what it holds already is not asked again. See `records_at`.
        seed: noted in the report, as the seed of dummy weights and random schedules.
        progress: told what is going on, and of every answer.

    Raises:
        CliError: an arm that this model can't have, or no question to ask.
    """
    if questions.count is not None:
        progress.expect(questions.count * len(arms))
    trial = hold_trial(
        loaded,
        arms,
        checked(loaded, arms, questions.items),
        file,
        max_new_tokens=run.max_new_tokens or subject.benchmark.max_new_tokens,
        batch_size=run.batch_size,
        done=progress.done,
        store=FeatureStore(run.feature_cache, loaded.device),
    )
    progress.tell("comparing")
    return make_evaluation(trial, subject, questions, seed)


def make_evaluation(trial: Trial, subject: Subject, questions: Questions, seed: int) -> Evaluation:
    """The whole report of `eval`; its models check that nothing is missing. seed: of dummy weights."""
    request, benchmark = trial.request, subject.benchmark
    overall, scores = whole(trial.rows), benchmark.scores
    unknown = {}
    if questions.available is None:
        unknown["available"] = "the source does not say how many it has"
    failed = (f"{row.id}: {said.error}" for row in trial.rows for said in row.said if said.error is not None)
    return Evaluation(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=model_part(request.loaded),
        environment=describe_environment(request.loaded.proven),
        generation=generation_part(request.loaded, request.max_new_tokens),
        workload=EvaluationWorkload(
            questions=QuestionsPart(
                benchmark=benchmark.name,
                title=benchmark.title,
                split=subject.split,
                provenance=questions.source,
                asked=len(trial.rows),
                available=questions.available,
                digest=trial.items_digest,
                reasons=unknown,
            ),
            max_new_tokens=request.max_new_tokens,
            batch_size=request.batch_size,
            seed=seed,
        ),
        counts=EvaluationCounts(
            questions=len(trial.rows),
            answered=sum(tally.answered for tally in trial.costs),
            errors=trial.failed,
            left_out=len(trial.rows) - len(overall.rows),
        ),
        headlines=headlines(overall.rows, scores),
        arms=_arms(trial, overall, scores),
        items=[_item(trial, row) for row in trial.rows],
        this_run=EvaluationRun(
            answered=trial.counts.answered,
            resumed=trial.counts.resumed,
            wall_s=trial.counts.wall_s,
            waiting_s=trial.counts.waiting_s,
        ),
        first_error=next(failed, None),
        subsets=hard_parts(overall, scores, trial.arms) if subject.subset else [],
    )


def _arms(trial: Trial, overall: JudgedImages, scores: Sequence[Score]) -> list[EvaluationArm]:
    kinds = list(dict.fromkeys(row.group for row in overall.rows))
    names = kinds if len(kinds) > 1 else []
    groups = {name: JudgedImages([row for row in overall.rows if row.group == name]) for name in names}
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


def _item(trial: Trial, row: JudgedItem) -> EvaluationItem:
    label, truth = row.label, None
    if label is not None:
        truth = TruthPart(
            kind=label.kind, answers=list(label.answers), options=list(label.options), box=label.box
        )
    verdicts = [said.verdict for said in row.said]
    return EvaluationItem(
        id=row.id,
        image=row.image,
        question=row.question,
        group=row.group,
        truth=truth,
        said={
            arm.name: SaidPart(
                answer=said.answer,
                right=None if verdict is None else verdict.right,
                box=said.box,
                iou=None if verdict is None else verdict.iou,
                centre=None if verdict is None else verdict.centre,
                read=None if verdict is None else verdict.said,
                error=said.error,
            )
            for arm, said, verdict in zip(trial.arms, row.said, verdicts, strict=True)
        },
    )
