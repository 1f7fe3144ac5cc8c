"""From a report to the profile that keeps the schedule, with where it comes from.

Knows reports and profiles; nothing of how a schedule was found.
"""

from __future__ import annotations

from reroute_cli.environment import installed_version
from reroute_cli.records.tune import TuneReport
from routing import Schedule


def profile_text(report: TuneReport, schedule: Schedule) -> str:
    """The schedule as a profile, with where it comes from; `-p FILE` takes it."""
    import profiles

    score, made = report.asked.score, report.found
    here = report.arm(made.arm).scores[score]
    return profiles.dump(
        schedule,
        title=f"{made.method} {made.action} tuned on {report.questions.name} for {score}, "
        f"{made.visual_tokens_per_layer:.1f} visual tokens per layer",
        source=f"reroute tune; {here.title} {_interval(here.value, here.low, here.high)} over "
        f"{here.n} questions about {here.pictures} pictures that the search has not seen",
        model_family=report.model.family,
        layers=report.budget.layers,
        visual=report.budget.visual_tokens,
        provenance=_provenance(report),
    )


def _provenance(report: TuneReport) -> dict[str, str | int | float]:
    score = report.asked.score
    here, dense = report.arm(report.found.arm).scores[score], report.arms[0].scores[score]
    asked = report.asked
    known: dict[str, str | int | float | None] = {
        "tool": f"reroute {installed_version('reroute')}",
        "created": report.created,
        "model": report.model.id,
        "revision": report.model.revision,
        "config_digest": report.model.config_digest,
        "weights": report.model.weights,
        "questions": report.questions.name,
        "questions_digest": report.questions.reported.digest,
        "searched_pictures": report.questions.searched.pictures,
        "reported_pictures": here.pictures,
        "reported_questions": here.n,
        "score": score,
        "value": round(here.value, 6),
        "low": None if here.low is None else round(here.low, 6),
        "high": None if here.high is None else round(here.high, 6),
        "dense_value": round(dense.value, 6),
        "asked_budget": asked.budget,
        "asked_ratio": asked.ratio,
        "asked_floor": asked.floor,
        "floor_of_dense": "yes" if asked.floor_of_dense else None,
        "floor_holds": None if report.floor is None else ("yes" if report.floor.holds else "no"),
        "average_visual": round(report.found.visual_tokens_per_layer, 6),
        "answers": report.course.answers,
        "seed": asked.seed,
    }
    return {name: value for name, value in known.items() if value is not None}


def _interval(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} (95% {low:.3f} to {high:.3f})"
