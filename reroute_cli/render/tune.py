"""The page at the end of a search: what was found, how it does on the half that was not searched, and how.

Knows reports and words; writes nowhere (output.py does).
"""

from __future__ import annotations

from collections.abc import Iterator

from reroute_cli.console import units
from reroute_cli.records.tune import ArmPart, TuneReport
from reroute_cli.render.draw import Page
from reroute_cli.render.report import drawn_page
from reroute_cli.reporting.blocks import Block, Say, Table, Tone
from reroute_cli.reporting.generation import not_neutral
from reroute_cli.reporting.score_words import arm_title, count, difference, plain_number, score
from reroute_cli.reporting.words import short

_NAME = 18  # characters of an arm's name in a table of 80 columns
_SHOWN = 10  # schedules of the search's course that are listed
_LONG = 200  # characters of a sentence from outside


def tune_page(report: TuneReport, *, verbose: bool = False) -> Page:
    """The page of a report; verbose: with other scores and the course of the search."""
    return drawn_page(list(tune_blocks(report, verbose=verbose)))


def tune_blocks(report: TuneReport, *, verbose: bool = False) -> Iterator[Block]:
    """What was found, the arms, what would mislead, how it was made."""
    yield Say(_headline(report), Tone.HEADLINE)
    yield _stages(report)
    yield _arms(report, report.asked.score)
    if verbose:
        others = [name for name in report.arms[0].scores if name != report.asked.score]
        yield from (_arms(report, name) for name in others)
        yield _tried(report)
    yield from (Say(text, Tone.WARNING) for text in _warnings(report))
    yield from (Say(text) for text in _notes(report))


def _headline(report: TuneReport) -> str:
    """'fastv reroute at layers 3, 5, 8: 85.2 of 256 visual tokens/layer, box Acc@0.5 0.92 [0.88, 0.95]'."""
    found = report.found
    layers = [stage.layer for stage in found.stages if stage.where == "decoder"]
    at = f"layer{'' if len(layers) == 1 else 's'} {', '.join(map(str, layers))}"
    kept = f"{units.tokens(found.average)} of {report.budget.visual} visual tokens/layer"
    mine = report.arm(found.arm).scores[report.asked.score]
    who = "the published " if found.published else ""
    return f"{who}{found.method} {found.action} at {at}: {kept}, {mine.title} {score(mine)}"


def _stages(report: TuneReport) -> Table:
    rows = [
        (
            stage.where,
            str(stage.layer),
            f"{stage.keep_ratio:.4f}",
            str(stage.kept),
            "the tower" if stage.scored_by is None else _ranking(report, stage.scored_by),
        )
        for stage in report.found.stages
    ]
    return Table(("stage", "layer", "keep ratio", "kept", "ranked by"), tuple(rows), right=(1, 2, 3))


def _ranking(report: TuneReport, layer: int) -> str:
    """'layer 3', with the engine's name of the ranking where it is not the usual one."""
    scorer = report.found.scorer
    return f"layer {layer}" if scorer == "last_query" else f"layer {layer}, {scorer}"


def _arms(report: TuneReport, name: str) -> Table:
    """Every arm's score on the reported half, and how far it is from what was found."""
    title = report.arms[0].scores[name].title
    rows = [_arm(arm, name) for arm in report.arms]
    return Table(("schedule", "tokens/layer", title, "tuned minus this"), tuple(rows), right=(1,))


def _arm(arm: ArmPart, name: str) -> tuple[str, str, str, str]:
    average = "–" if arm.cost is None else units.tokens(arm.cost.average_visual)
    against = "" if not arm.to_found else difference(arm.to_found.get(name))
    return _title(arm.name), average, score(arm.scores.get(name)), against


def _title(name: str) -> str:
    """'pdrop-reroute' -> 'pdrop reroute'."""
    return arm_title(name, name.rpartition("-")[2], _NAME)


def _tried(report: TuneReport) -> Table:
    tried = report.course.tried
    rows = [
        (
            short(one.stages, 44),
            units.tokens(one.average),
            str(one.questions),
            "broken" if one.value is None else plain_number(one.value),
        )
        for one in tried[:_SHOWN]
    ]
    title = f"tried on the searched half ({len(rows)} of {len(tried)})"
    return Table((title, "tokens", "questions", "score"), tuple(rows), right=(1, 2, 3))


def _warnings(report: TuneReport) -> Iterator[str]:
    """What would mislead if it were not said."""
    if report.model.weights == "random":
        yield "random weights: the costs are real, the answers mean nothing"
    yield from not_neutral(report.generation)
    if (floor := report.floor) is not None and not floor.holds:
        yield (
            f"the floor does not hold on the reported half: {floor.score:.3f} is below {floor.value:.3f}; "
            "search with more --answers or a higher --floor"
        )
    if report.found.published:
        yield "no schedule of the search was better than this published method as it is"
    yield from _no_gain(report)
    for name, why in report.unreachable.items():
        yield f"{_title(name)} is not here: {short(why, _LONG)}"
    if report.errors:
        left_out = f"{count(report.left_out, 'question')} left out"
        yield f"{count(report.errors, 'answer')} failed, {left_out}: {short(report.first_error, _LONG)}"


def _no_gain(report: TuneReport) -> Iterator[str]:
    """Where the best published method may be as good."""
    best = report.best_published
    if best is None or best == report.found.arm:
        return
    found = report.arm(best).to_found[report.asked.score]
    if not found.is_real:
        yield f"these questions do not tell it from {_title(best)}: {difference(found)}"


def _notes(report: TuneReport) -> Iterator[str]:
    asked, questions, course = report.asked, report.questions, report.course
    searched, reported = questions.searched, questions.reported
    yield (
        f"reported on {count(reported.questions, 'question')} about {count(reported.pictures, 'picture')} "
        f"that the search has not seen; searched on {searched.questions} about {searched.pictures}"
    )
    yield (
        f"{count(len(course.tried), 'schedule')} tried with {course.answers} answers; "
        f"this run: {report.this_run.answered} new answers, {report.this_run.resumed} from the records"
    )
    if questions.other:
        yield f"{count(questions.other, 'other question')} not asked: {asked.score} is not of them"
    yield "differences: paired, 95% bootstrap over pictures · shares: 95% Wilson, by picture"
    if report.found.profile is not None:
        yield f"reroute ask IMAGE QUESTION -p {report.found.profile}"
