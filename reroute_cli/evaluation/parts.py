"""Judged rows as parts of a record: every arm's scores, its differences from others, what its answers took.

Knows rows, scores and record parts; not which command wants them, nor the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reroute_cli.arms import Arm
from reroute_cli.batching.summary import Tally
from reroute_cli.evaluation.score import Estimate, Pictures, Score
from reroute_cli.evaluation.trial import Row, Schedules
from reroute_cli.records.score import (
    ArmChoicePart,
    CostPart,
    DifferencePart,
    MadePart,
    ScorePart,
    ScoresPart,
)
from reroute_cli.scores import mcnemar

NO_ANSWER = "nothing was answered"


def whole(rows: Iterable[Row]) -> Pictures:
    """The rows that compare the arms, those in which each has an answer, by picture."""
    return Pictures([row for row in rows if row.whole])


def twin(arms: Sequence[Arm], place: int) -> int | None:
    """The arm that prunes what this one reroutes: the same method, decision layers as typed, and amount.

    None where there is none.
    """
    if arms[place].action != "reroute":
        return None
    pruning = (other for other, arm in enumerate(arms) if arm.action == "prune")
    return next((other for other in pruning if _deed(arms[other]) == _deed(arms[place])), None)


def _deed(arm: Arm) -> tuple[object, ...]:
    """All of a schedule but its action."""
    return arm.choice.method, arm.choice.cuts, arm.choice.ratio, arm.choice.budget


def scores_part(pictures: Pictures, scores: Sequence[Score], arms: Sequence[Arm], place: int) -> ScoresPart:
    """One arm's scores over these rows, as far as they are of anything here. Arm 0 is the dense one."""
    other = twin(arms, place)
    return ScoresPart(
        scores=_scores(pictures, scores, place),
        to_dense=differences(pictures, scores, arms, place, 0) if place else {},
        to_prune={} if other is None else differences(pictures, scores, arms, place, other),
    )


def _scores(pictures: Pictures, scores: Sequence[Score], place: int) -> dict[str, ScorePart]:
    found = {score.name: (score, pictures.estimate(score, place)) for score in scores}
    return {
        name: ScorePart(
            title=score.title,
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            n=pictures.questions(score),
            pictures=pictures.pictures(score),
            interval="bootstrap" if estimate.effect is None else "wilson",
            design_effect=estimate.effect,
            reasons=_reasons(estimate),
        )
        for name, (score, estimate) in found.items()
        if estimate is not None
    }


def differences(
    pictures: Pictures, scores: Sequence[Score], arms: Sequence[Arm], place: int, base: int
) -> dict[str, DifferencePart]:
    """Every score of an arm minus that of another one, by name."""
    found = {score.name: difference(pictures, score, arms, place, base) for score in scores}
    return {name: part for name, part in found.items() if part is not None}


def difference(
    pictures: Pictures, score: Score, arms: Sequence[Arm], place: int, base: int
) -> DifferencePart | None:
    """One score of an arm minus that of another one; None where either is of nothing."""
    estimate = pictures.difference(score, place, base)
    if estimate is None:
        return None
    this, other = pictures.only(score, place, base) if score.share else (None, None)
    return DifferencePart(
        base=arms[base].name,
        title=score.title,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        n=pictures.questions(score),
        pictures=pictures.pictures(score),
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
        decision_layers=None if arm.choice.cuts is None else list(arm.choice.cuts),
    )


def made_part(schedules: Schedules, tally: Tally) -> MadePart:
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
