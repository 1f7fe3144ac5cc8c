"""The parts that every report of judged answers has: scores, differences of arms, schedules and costs.

Knows judged answers and the records' parts; asks nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from reroute_cli.measure.scores import Estimate, JudgedImages, JudgedItem, Score
from reroute_cli.measure.stats import mcnemar
from reroute_cli.records.evaluation import (
    ArmChoicePart,
    CostPart,
    DifferencePart,
    MadePart,
    ScorePart,
    ScoresPart,
)

if TYPE_CHECKING:
    from reroute_cli.run.schedules import Arm
    from reroute_cli.run.summary import Tally
    from reroute_cli.run.trial import ScheduleTally

NO_ANSWER = "nothing was answered"


def headlines(rows: Sequence[JudgedItem], scores: Sequence[Score]) -> list[str]:
    """The first score of each set of questions, by name: of boxes, of words."""
    first: dict[tuple[bool, ...], str] = {}
    for score in scores:
        of = tuple(score.of(row) for row in rows)
        if any(of):
            first.setdefault(of, score.name)
    return list(first.values())


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
