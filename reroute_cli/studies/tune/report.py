"""From what a search found to its report, and from the report to a profile.

Knows the record's parts and profiles; asks and searches nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reroute_cli.console.errors import Failure
from reroute_cli.console.missing import installed_version
from reroute_cli.data.images import as_text
from reroute_cli.measure.environment import describe_environment
from reroute_cli.measure.scores import PLAIN, JudgedImages, Score
from reroute_cli.records.tune import (
    BudgetPart,
    CoursePart,
    EntryPart,
    FloorPart,
    FoundPart,
    HalfPart,
    RungPart,
    TriedPart,
    TuneArm,
    TuneAsked,
    TuneQuestions,
    TuneReport,
    TuneRun,
)
from reroute_cli.run.answer import generation_part, model_part
from reroute_cli.run.stages import places_of
from reroute_cli.run.trial import items_digest
from reroute_cli.studies.questions import cost_part, difference, differences, made_part, scores_part, whole

if TYPE_CHECKING:
    from reroute_cli.studies.questions import Subject
    from reroute_cli.studies.tune.request import SplitQuestions, TuneRequest
    from reroute_cli.studies.tune.session import Asking, TuneResult


@dataclass(frozen=True)
class Where:
    """Where questions come from, and where the profile goes. source: in a few words, for people."""

    subject: Subject
    source: dict[str, str]
    profile: Path | None = None


def make_report(
    where: Where, questions: SplitQuestions, request: TuneRequest, asking: Asking, found: TuneResult
) -> TuneReport:
    """The whole report; raises Failure where no question of the reported half can be scored."""
    trial, score, floor, target = found.trial, questions.score, request.floor, found.space.target
    images = whole(trial.rows)
    errors = [said.error for row in trial.rows for said in row.said if said.error is not None]
    # the benchmark's scores, the one that was searched first; those of nothing here fall out
    others = [one for one in where.subject.benchmark.scores or PLAIN if one.name != score.name]
    arms = _arms(found, images, (score, *others))
    if score.name not in arms[found.place].scores:
        why = errors[0] if errors else "none of them was answered"
        raise Failure(
            f"nothing can be reported: no question of the other half is answered by every arm: {why}"
        )
    known = [arm for arm in arms if arm.published and score.name in arm.scores]
    best = max(known, key=lambda arm: arm.scores[score.name].value, default=None)  # hardest one to beat
    held = None
    if floor is not None:
        dense, here = (arms[one].scores[score.name].value for one in (0, found.place))
        value = floor.value(dense)
        searched = floor.value(found.dense or 0.0)
        held = FloorPart(value=value, score=here, searched=searched, holds=here >= value)
    return TuneReport(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        asked=TuneAsked(
            budget=request.budget,
            ratio=request.ratio,
            floor=None if floor is None else floor.amount,
            floor_of_dense=floor is not None and floor.of_dense,
            score=score.name,
            methods=request.typed,
            actions=list(request.actions),
            answers=request.answers,
            seed=request.seed,
        ),
        model=model_part(asking.loaded),
        generation=generation_part(asking.loaded, asking.max_new_tokens),
        questions=_questions(where, questions, asking, trial.items_digest),
        budget=BudgetPart(
            layers=target.layers,
            first_layer=target.first_layer,
            visual_tokens=target.visual,
            layer_tokens=found.space.tokens,
            visual_tokens_per_layer=found.space.average,
            ratio=found.space.ratio,
        ),
        found=_found(found, where.profile),
        arms=arms,
        best_published=None if best is None else best.name,
        floor=held,
        unreachable=found.unreachable,
        left_out=len(trial.rows) - len(images.rows),
        errors=len(errors),
        first_error=errors[0] if errors else "",
        course=_course(found),
        this_run=TuneRun(answered=asking.answered, resumed=asking.resumed, wall_s=asking.seconds),
        environment=describe_environment(asking.loaded.proven),
    )


def _questions(where: Where, questions: SplitQuestions, asking: Asking, reported: str) -> TuneQuestions:
    """Which questions, in their halves. reported: the digest of the reported half."""
    subject, halves = where.subject, questions.halves
    searched = items_digest((item, item.contents()) for item in halves.searched.items)
    parts = [
        HalfPart(images=half.images, questions=len(half.items), digest=digest)
        for half, digest in ((halves.searched, searched), (halves.reported, reported))
    ]
    return TuneQuestions(
        name=subject.benchmark.name + (f" {subject.split}" if subject.split else ""),
        provenance=where.source,
        searched=parts[0],
        reported=parts[1],
        other=questions.other,
        max_new_tokens=asking.max_new_tokens,
        batch_size=asking.batch_size,
    )


def _found(found: TuneResult, profile: Path | None) -> FoundPart:
    """The schedule that was found."""
    target = found.space.target
    name, schedule = found.trial.arms[found.place].name, found.entry.candidate.schedule
    plain, where = schedule.as_dict(), places_of(schedule)
    routes = found.entry.candidate.choice.routes
    counts = schedule.counts(target.visual, target.layers)
    ranked = [*[None] * (schedule.vision is not None), *(stage.ranking_layer for stage in schedule.stages)]
    return FoundPart(
        arm=name,
        published=name in found.published,
        method=found.entry.method,
        action=found.entry.action,
        scorer=schedule.scorer if routes else None,
        stages=[
            EntryPart(
                where=where[layer],
                layer=layer,
                keep_ratio=keep,
                kept=count,
                scored_by=by,
                reasons={}
                if by is not None
                else {"scored_by": "no decoder layer ranks what enters the first"},
            )
            for (layer, keep), count, by in zip(schedule.entries, counts, ranked, strict=True)
        ],
        visual_tokens_per_layer=found.entry.average(target),
        schedule_digest=schedule.digest(),
        schedule=plain | {"stages": list(plain["stages"])} if routes else None,  # JSON has lists, not tuples
        profile=as_text(str(profile)) if routes and profile is not None else None,
    )


def _arms(found: TuneResult, images: JudgedImages, scores: Sequence[Score]) -> list[TuneArm]:
    """Every arm's scores on the reported half, and what was found minus it."""
    arms, trial, parts = found.trial.arms, found.trial, []
    for place, arm in enumerate(arms):
        to_found: dict[str, Any] = {}
        if place != found.place:
            made = ((one.name, difference(images, one, arms, found.place, place)) for one in scores)
            to_found = {name: part for name, part in made if part is not None}
        parts.append(
            TuneArm(
                name=arm.name,
                published=arm.name in found.published,
                made=made_part(trial.schedules[place], trial.costs[place]),
                cost=cost_part(trial.costs[place]),
                scores=scores_part(images, scores, arms, place).scores,
                to_dense=differences(images, scores, arms, place, 0) if place else {},
                to_found=to_found,
                reasons={} if trial.costs[place].answered else {"cost": "it answered nothing"},
            )
        )
    return parts


def _course(found: TuneResult) -> CoursePart:
    """Every search, and every schedule: those with the most questions first and the best of them first."""
    tried = [
        (space, entry)
        for space, log in found.logs
        for entry in sorted(log.entries.values(), key=lambda entry: (-entry.questions, entry.rank))
    ]
    return CoursePart(
        answers=sum(log.answers for _, log in found.logs),
        dense=found.dense,
        rungs=[
            RungPart(layer_tokens=space.tokens, questions=questions, schedules=number)
            for space, log in found.logs
            for questions, number in log.rungs
        ],
        tried=[
            TriedPart(
                method=entry.method,
                action=entry.action,
                origin=entry.candidate.origin,
                identity=entry.candidate.identity,
                layer_tokens=space.tokens,
                visual_tokens_per_layer=entry.average(space.target),
                questions=entry.questions,
                value=None if entry.mark.broken else entry.mark.value,
                broken=entry.mark.broken,
            )
            for space, entry in tried
        ],
    )


def profile_text(report: TuneReport) -> str:
    """What was found as a profile (YAML), with where it comes from; `-p FILE` takes it.

    Raises Failure where smaller images were better than any schedule: no profile says that.
    """
    import profiles
    from routing import Schedule

    asked, made, model = report.asked, report.found, report.model
    if made.schedule is None:
        ratio = report.budget.ratio if asked.ratio is None else asked.ratio
        amount = f"--ratio {ratio:.4g}" if asked.budget is None else f"--budget {asked.budget:g}"
        raise Failure(
            f"there is no schedule to write: none that was tried is better than {made.method}, which makes "
            f"images smaller and which no profile holds: ask with --method {made.method} {amount}"
        )
    schedule = Schedule.from_dict(made.schedule)
    here, dense = report.arm(made.arm).scores[asked.score], report.arms[0].scores[asked.score]
    interval = "" if here.low is None or here.high is None else f" (95% {here.low:.3f} to {here.high:.3f})"
    known: dict[str, str | int | float | None] = {
        "tool": f"reroute {installed_version('reroute')}",
        "created": report.created,
        "model": model.id,
        "revision": model.revision,
        "config_digest": model.config_digest,
        "weights": model.weights,
        "questions": report.questions.name,
        "questions_digest": report.questions.reported.digest,
        "searched_pictures": report.questions.searched.images,
        "reported_pictures": here.images,
        "reported_questions": here.n,
        "score": asked.score,
        "value": round(here.value, 6),
        "low": None if here.low is None else round(here.low, 6),
        "high": None if here.high is None else round(here.high, 6),
        "dense_value": round(dense.value, 6),
        "asked_budget": asked.budget,
        "asked_ratio": asked.ratio,
        "asked_floor": asked.floor,
        "floor_of_dense": "yes" if asked.floor_of_dense else None,
        "floor_holds": None if report.floor is None else ("yes" if report.floor.holds else "no"),
        "average_visual": round(made.visual_tokens_per_layer, 6),
        "answers": report.course.answers,
        "seed": asked.seed,
    }
    return profiles.dump(
        schedule,
        title=f"{made.method} {made.action} tuned on {report.questions.name} for {asked.score}, "
        f"{made.visual_tokens_per_layer:.1f} visual tokens per layer",
        source=f"reroute tune; {here.title} {here.value:.3f}{interval} over "
        f"{here.n} questions about {here.images} images that the search has not seen",
        model_family=model.family,
        layers=report.budget.layers,
        visual=report.budget.visual_tokens,
        provenance={name: value for name, value in known.items() if value is not None},
    )
