"""From what a search found to its report, `reroute.tune/2`.

Knows the record's parts; asks and searches nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reroute_cli.answer import generation_part, model_part
from reroute_cli.batch_inputs import BatchItem
from reroute_cli.console.errors import Failure
from reroute_cli.environment import describe_environment
from reroute_cli.evaluation.fingerprint import Fingerprint
from reroute_cli.evaluation.parts import cost_part, difference, differences, made_part, scores_part, whole
from reroute_cli.evaluation.score import PLAIN, Pictures, Score
from reroute_cli.evaluation.subject import Subject
from reroute_cli.image_names import contents_of
from reroute_cli.images import as_text
from reroute_cli.records.tune import (
    ArmPart,
    AskedPart,
    BudgetPart,
    CoursePart,
    EntryPart,
    FloorPart,
    FoundPart,
    HalfPart,
    QuestionsPart,
    RungPart,
    ThisRunPart,
    TriedPart,
    TuneReport,
)
from reroute_cli.tuning.halves import Half
from reroute_cli.tuning.jury import Asking
from reroute_cli.tuning.plans import Candidate, Room
from reroute_cli.tuning.search import Course, Entry
from reroute_cli.tuning.session import Found, Questions
from reroute_cli.tuning.wish import Wish
from routing import Schedule


@dataclass(frozen=True)
class Where:
    """Where questions come from, and where the profile goes."""

    subject: Subject
    source: dict[str, str]
    profile: Path | None


def make_report(where: Where, questions: Questions, wish: Wish, asking: Asking, found: Found) -> TuneReport:
    """The whole report; raises Failure where no question of the reported half can be scored."""
    pictures = whole(found.trial.rows)
    errors = [said.error for row in found.trial.rows for said in row.said if said.error is not None]
    arms = _arms(found, pictures, _scores(where.subject, questions.score))
    if questions.score.name not in arms[found.place].scores:
        why = errors[0] if errors else "none of them was answered"
        raise Failure(
            f"nothing can be reported: no question of the other half is answered by every arm: {why}"
        )
    return TuneReport(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        asked=_asked(wish, questions.score),
        model=model_part(asking.loaded),
        generation=generation_part(asking.loaded, asking.max_new_tokens),
        questions=_questions(where, questions, asking, found),
        budget=_budget(found.room),
        found=_found(found, where.profile),
        arms=arms,
        best_published=_best(arms, questions.score),
        floor=_floor(wish, found, arms, questions.score),
        unreachable=found.unreachable,
        left_out=len(found.trial.rows) - len(pictures.rows),
        errors=len(errors),
        first_error=errors[0] if errors else "",
        course=_course(found),
        this_run=ThisRunPart(answered=asking.answered, resumed=asking.resumed, wall_s=asking.seconds),
        environment=describe_environment(asking.loaded.proven),
    )


def _scores(subject: Subject, searched: Score) -> tuple[Score, ...]:
    """The benchmark's scores, the one that was searched first; those of nothing here fall out later."""
    known = subject.benchmark.scores or PLAIN
    return (searched, *(score for score in known if score.name != searched.name))


def _asked(wish: Wish, score: Score) -> AskedPart:
    return AskedPart(
        budget=wish.budget,
        ratio=wish.ratio,
        floor=None if wish.floor is None else wish.floor.amount,
        floor_of_dense=wish.floor is not None and wish.floor.of_dense,
        score=score.name,
        methods=list(wish.methods),
        actions=list(wish.actions),
        answers=wish.answers,
        seed=wish.seed,
    )


def _questions(where: Where, questions: Questions, asking: Asking, found: Found) -> QuestionsPart:
    subject, halves = where.subject, questions.halves
    return QuestionsPart(
        name=subject.benchmark.name + (f" {subject.split}" if subject.split else ""),
        source=where.source,
        searched=_half(halves.searched, _digest(halves.searched.items)),
        reported=_half(halves.reported, found.trial.items_digest),
        other=questions.other,
        max_new_tokens=asking.max_new_tokens,
        batch_size=asking.batch_size,
    )


def _half(half: Half, digest: str) -> HalfPart:
    return HalfPart(pictures=half.pictures, questions=len(half.items), digest=digest)


def _digest(items: Sequence[BatchItem]) -> str:
    mark = Fingerprint()
    for item in items:
        mark.add(item, contents_of(item.images))
    return mark.digest()


def _budget(room: Room) -> BudgetPart:
    target = room.target
    return BudgetPart(
        layers=target.layers,
        first_layer=target.first_layer,
        visual_tokens=target.visual,
        layer_tokens=room.tokens,
        visual_tokens_per_layer=room.average,
        ratio=room.ratio,
    )


def _found(found: Found, profile: Path | None) -> FoundPart:
    one, target = found.entry.candidate, found.room.target
    name = found.trial.arms[found.place].name
    return FoundPart(
        arm=name,
        published=name in found.published,
        method=one.plan.method,
        action=str(one.schedule.action),
        scorer=one.schedule.scorer,
        stages=_stages(one, found.room),
        visual_tokens_per_layer=one.schedule.average_tokens(target.visual, target.layers),
        schedule_digest=one.schedule.digest(),
        schedule=_plain(one.schedule),
        profile=None if profile is None else as_text(str(profile)),
    )


def _plain(schedule: Schedule) -> dict[str, Any]:
    """The schedule as JSON values: lists where it has tuples."""
    return schedule.as_dict() | {"stages": list(schedule.as_dict()["stages"])}


def _stages(one: Candidate, room: Room) -> list[EntryPart]:
    counts = one.schedule.counts(room.target.visual, room.target.layers)
    vision = [None] * (one.schedule.vision is not None)
    ranked = [*vision, *(stage.ranking_layer for stage in one.schedule.stages)]
    return [
        EntryPart(
            where="vision" if by is None else "decoder",
            layer=layer,
            keep_ratio=keep,
            kept=count,
            scored_by=by,
            reasons={} if by is not None else {"scored_by": "the vision tower ranks its own patches"},
        )
        for (layer, keep), count, by in zip(one.schedule.entries, counts, ranked, strict=True)
    ]


def _arms(found: Found, pictures: Pictures, scores: Sequence[Score]) -> list[ArmPart]:
    arms, trial = found.trial.arms, found.trial
    return [
        ArmPart(
            name=arm.name,
            published=arm.name in found.published,
            made=made_part(trial.schedules[place], trial.costs[place]),
            cost=cost_part(trial.costs[place]),
            scores=scores_part(pictures, scores, arms, place).scores,
            to_dense=differences(pictures, scores, arms, place, 0) if place else {},
            to_found=_to_found(found, pictures, scores, place),
            reasons={} if trial.costs[place].answered else {"cost": "it answered nothing"},
        )
        for place, arm in enumerate(arms)
    ]


def _to_found(found: Found, pictures: Pictures, scores: Sequence[Score], place: int) -> dict[str, Any]:
    """What was found minus the arm at `place`."""
    if place == found.place:
        return {}
    made = {score.name: difference(pictures, score, found.trial.arms, found.place, place) for score in scores}
    return {name: part for name, part in made.items() if part is not None}


def _best(arms: Sequence[ArmPart], score: Score) -> str | None:
    """The published arm that does best on the reported half: the hardest one to beat there."""
    known = [arm for arm in arms if arm.published and score.name in arm.scores]
    return max(known, key=lambda arm: arm.scores[score.name].value).name if known else None


def _floor(wish: Wish, found: Found, arms: Sequence[ArmPart], score: Score) -> FloorPart | None:
    if wish.floor is None:
        return None
    dense, here = arms[0].scores[score.name].value, arms[found.place].scores[score.name].value
    value = wish.floor.value(dense)
    return FloorPart(
        value=value, score=here, searched=wish.floor.value(found.dense or 0.0), holds=here >= value
    )


def _course(found: Found) -> CoursePart:
    return CoursePart(
        answers=sum(course.answers for _, course in found.courses),
        dense=found.dense,
        rungs=[
            RungPart(layer_tokens=room.tokens, questions=questions, schedules=number)
            for room, course in found.courses
            for questions, number in course.rungs
        ],
        tried=[part for room, course in found.courses for part in _tried(room, course)],
    )


def _tried(room: Room, course: Course) -> list[TriedPart]:
    """Every schedule, those with the most questions first and the best of them first."""
    entries = sorted(course.entries.values(), key=lambda entry: (-entry.questions, entry.rank))
    return [_one_tried(room, entry) for entry in entries]


def _one_tried(room: Room, entry: Entry) -> TriedPart:
    one = entry.candidate
    return TriedPart(
        method=one.plan.method,
        action=one.plan.action,
        origin=one.origin,
        identity=one.identity,
        layer_tokens=room.tokens,
        visual_tokens_per_layer=one.schedule.average_tokens(room.target.visual, room.target.layers),
        questions=entry.questions,
        value=None if entry.mark.broken else entry.mark.value,
        broken=entry.mark.broken,
    )
