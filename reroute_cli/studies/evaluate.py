"""How good answers are under each schedule: questions asked, answers judged, compared with dense.

`evaluate` gives the report of `eval`; the parts below are those that all reports of judged answers share:
every arm's scores, its differences from others, and what its answers took.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reroute_cli.measure.environment import describe_environment
from reroute_cli.measure.scores import Estimate, JudgedImages, JudgedItem, Score
from reroute_cli.measure.stats import mcnemar
from reroute_cli.models.load import Loaded
from reroute_cli.records.evaluation import (
    ArmChoicePart,
    CostPart,
    DifferencePart,
    Evaluation,
    EvaluationArm,
    EvaluationCounts,
    EvaluationItem,
    EvaluationRun,
    EvaluationWorkload,
    MadePart,
    QuestionsPart,
    SaidPart,
    ScorePart,
    ScoresPart,
    TruthPart,
)
from reroute_cli.records.store import RecordFile
from reroute_cli.run.answer import generation_part, model_part
from reroute_cli.run.schedules import Arm
from reroute_cli.run.summary import Tally
from reroute_cli.run.trial import ScheduleTally, Trial, checked, hold_trial
from reroute_cli.studies import SILENT, StudyProgress

if TYPE_CHECKING:
    from reroute_cli.studies.benchmarks.benchmark import Questions
    from reroute_cli.studies.questions import Subject

NO_ANSWER = "nothing was answered"


def evaluate(
    loaded: Loaded,
    subject: Subject,
    questions: Questions,
    arms: Sequence[Arm],
    file: RecordFile,
    *,
    max_new_tokens: int | None = None,
    batch_size: int = 8,
    seed: int = 0,
    progress: StudyProgress = SILENT,
) -> Evaluation:
    """Ask every question under every arm, judge the answers, and compare the arms pair by pair.

    Args:
        loaded: the model.
        subject: the benchmark and which of its questions, see `subject_of`.
        questions: those, with what is true of each; see `Subject.questions`.
        arms: the schedules, the dense arm first; see `arms_of`.
        file: keeps the answers; what it holds already is not asked again. See `records_at`.
        max_new_tokens: the longest answer; by default the benchmark's.
        batch_size: items answered together.
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
        max_new_tokens=max_new_tokens or subject.benchmark.max_new_tokens,
        batch_size=batch_size,
        done=progress.done,
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
                source=questions.source,
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
    )


def headlines(rows: Sequence[JudgedItem], scores: Sequence[Score]) -> list[str]:
    """The first score of each set of questions, by name: of boxes, of words."""
    first: dict[tuple[bool, ...], str] = {}
    for score in scores:
        of = tuple(score.of(row) for row in rows)
        if any(of):
            first.setdefault(of, score.name)
    return list(first.values())


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


def whole(rows: Iterable[JudgedItem]) -> JudgedImages:
    """The rows that compare the arms, those in which each has an answer, by image."""
    return JudgedImages([row for row in rows if row.whole])


def twin(arms: Sequence[Arm], place: int) -> int | None:
    """The arm that prunes what this one reroutes: the same method, decision layers as typed, and amount.

    None where there is none.
    """
    if arms[place].action != "reroute":
        return None
    asked = [(arm.choice.method, arm.choice.layers, arm.choice.ratio, arm.choice.budget) for arm in arms]
    pruning = (other for other, arm in enumerate(arms) if arm.action == "prune")
    return next((other for other in pruning if asked[other] == asked[place]), None)


def scores_part(images: JudgedImages, scores: Sequence[Score], arms: Sequence[Arm], place: int) -> ScoresPart:
    """One arm's scores over these rows, as far as they are of anything here. Arm 0 is the dense one."""
    other = twin(arms, place)
    parts = {}
    for score in scores:
        if (estimate := images.estimate(score, place)) is not None:
            parts[score.name] = ScorePart(
                title=score.title,
                value=estimate.value,
                low=estimate.low,
                high=estimate.high,
                n=images.questions(score),
                pictures=images.pictures(score),
                interval="bootstrap" if estimate.effect is None else "wilson",
                design_effect=estimate.effect,
                reasons=_reasons(estimate),
            )
    return ScoresPart(
        scores=parts,
        to_dense=differences(images, scores, arms, place, 0) if place else {},
        to_prune={} if other is None else differences(images, scores, arms, place, other),
    )


def differences(
    images: JudgedImages, scores: Sequence[Score], arms: Sequence[Arm], place: int, base: int
) -> dict[str, DifferencePart]:
    """Every score of an arm minus that of another one, by name."""
    found = {score.name: difference(images, score, arms, place, base) for score in scores}
    return {name: part for name, part in found.items() if part is not None}


def difference(
    images: JudgedImages, score: Score, arms: Sequence[Arm], place: int, base: int
) -> DifferencePart | None:
    """One score of an arm minus that of another one; None where either is of nothing."""
    estimate = images.difference(score, place, base)
    if estimate is None:
        return None
    this, other = images.only(score, place, base) if score.share else (None, None)
    return DifferencePart(
        base=arms[base].name,
        title=score.title,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        n=images.questions(score),
        pictures=images.pictures(score),
        only_this=this,
        only_base=other,
        mcnemar_p=None if this is None or other is None else mcnemar(this, other),
        reasons=_reasons(estimate),
    )


def _reasons(estimate: Estimate) -> dict[str, str]:
    return {"low": estimate.reason, "high": estimate.reason} if estimate.low is None else {}


def choice_part(arm: Arm) -> ArmChoicePart:
    """What was asked for."""
    return ArmChoicePart(
        method=arm.method,
        action=arm.action,
        profile=arm.name if arm.choice.profile is not None else None,
        ratio=arm.choice.ratio,
        budget=arm.choice.budget,
        decision_layers=None if arm.choice.layers is None else list(arm.choice.layers),
    )


def made_part(schedules: ScheduleTally, tally: Tally) -> MadePart:
    """What came of it."""
    first, ratio = schedules.first, None
    if tally.answered:
        means = tally.means()
        ratio = 1 - means.visual_tokens_per_layer / means.visual_tokens if means.visual_tokens else 0.0
    missing = {
        name: NO_ANSWER for name, value in (("achieved_ratio", ratio), ("first", first)) if value is None
    }
    return MadePart(
        schedules=len(schedules.digests),
        ended_by_limit=schedules.cut,
        achieved_ratio=ratio,
        first=first,
        reasons=missing,
    )


def cost_part(tally: Tally) -> CostPart | None:
    """What an arm's answers took on average; None where there is none."""
    if not tally.answered:
        return None
    means = tally.means()
    prefill, dense = means.prefill_flops, means.dense_prefill_flops
    unknown = prefill is None or not dense
    why = means.reasons.get("prefill_flops") or means.reasons.get("dense_prefill_flops") or NO_ANSWER
    return CostPart(
        **{name: getattr(means, name) for name in type(means).model_fields if name != "reasons"},
        prefill_flops_ratio=None if prefill is None or not dense else prefill / dense,
        kv_end_ratio=means.kv_end_bytes / means.dense_kv_end_bytes,
        reasons=means.reasons | ({"prefill_flops_ratio": why} if unknown else {}),
    )
