"""A search for a schedule, `reroute.tune/1`: what was found, how it does on the unseen half, and how.

Knows the record; no writer.
"""

from __future__ import annotations

from collections.abc import Iterator

from reroute_cli.console import units
from reroute_cli.records.tune import (
    TuneReport,
)
from reroute_cli.views import wording as w
from reroute_cli.views.document import (
    BLANK,
    PAGE,
    TEXT,
    Block,
    Cell,
    Chart,
    Column,
    Document,
    Table,
    Text,
    Tile,
    Tone,
)
from reroute_cli.views.write import charts

_NAME = 18  # characters of an arm's name in a table of 80 columns
_SHOWN = 10  # schedules of the search that text lists
_BEFORE = {"vision": "the tower", "entrance": "the features"}  # what ranks before the decoder


def document(report: TuneReport, *, verbose: bool = False) -> Document:
    """What was found, the arms, what would mislead, how it was made; verbose: other scores, the search."""
    found = report.found
    blocks: list[Block] = [Text(_headline(report), Tone.HEADLINE)]
    for key in dict.fromkeys(("dense", found.arm, report.best_published)):
        part = None if key is None else report.arm(key).scores.get(report.asked.score)
        if key is not None and part is not None:
            what = "found" if key == found.arm else "best published"
            label = key if key == "dense" else f"{what}: {_title(key)}"
            note, role = f"{part.title}, 95% {w.scored(part).note}", w.role_of(key, _action(key))
            blocks.append(Tile(label, w.plain_number(part.value), note, role))
    kept = f"{units.tokens(found.visual_tokens_per_layer)} of {report.budget.visual_tokens}"
    blocks.append(Tile("visual tokens per layer", kept, "estimated from the schedule"))
    # every decision; what ranks, with the engine's name of the ranking where it is not the usual one
    numbers, rows = ("layer", "keep ratio", "kept"), []
    for stage in found.stages:
        ranking = _BEFORE.get(stage.where, f"layer {stage.scored_by}")
        if stage.scored_by is not None and found.scorer != "last_query":
            ranking += f", {found.scorer}"
        keep = Cell(f"{stage.keep_ratio:.4f}", stage.keep_ratio)
        counts = (w.counted(stage.layer), keep, w.counted(stage.kept))
        rows.append((Cell(stage.where), *counts, w.words(ranking)))
    headers = w.columns("stage", *numbers, "ranked by", right=numbers)
    if rows:
        blocks.append(w.table(f"What was found: {w.short(found.arm, w.NAME)}", headers, rows))
    blocks += [_arms(report, verbose=verbose), *_search(report, verbose=verbose)]
    blocks += w.texts(Tone.WARNING, _warnings(report))
    return Document("tune", (*blocks, *w.texts(Tone.NOTE, _notes(report))))


def _action(key: str) -> str:
    return key.rpartition("-")[2]


def _title(key: str) -> str:
    """'pdrop-reroute' -> 'pdrop reroute'."""
    return w.arm_title(key, _action(key), _NAME)


def _headline(report: TuneReport) -> str:
    """'fastv reroute at layers 3, 5, 8: 85.2 of 256 visual tokens/layer, box Acc@0.5 0.92 [0.88, 0.95]'."""
    found = report.found
    layers = [stage.layer for stage in found.stages if stage.where == "decoder"]
    at = f"at layer{'' if len(layers) == 1 else 's'} {', '.join(map(str, layers))}"
    at = at if layers else "before the decoder"
    what = f"{found.method} {found.action} {at}" if found.stages else f"{found.method}, images made smaller"
    kept = (
        f"{units.tokens(found.visual_tokens_per_layer)} of {report.budget.visual_tokens} visual tokens/layer"
    )
    mine = report.arm(found.arm).scores[report.asked.score]
    published = "the published " if found.published else ""
    return f"{published}{what}: {kept}, {mine.title} {w.scored(mine).line}"


def _warnings(report: TuneReport) -> Iterator[str]:
    """What would mislead if it were not said."""
    yield from w.beware(report.model.weights, report.generation)
    if (floor := report.floor) is not None and not floor.holds:
        yield (
            f"the floor does not hold on the reported half: {floor.score:.3f} is below {floor.value:.3f}; "
            "search with more --answers or a higher --floor"
        )
    if report.found.published:
        yield "no schedule of the search was better than this published method as it is"
    best = report.best_published
    if best is not None and best != report.found.arm:
        found = report.arm(best).to_found[report.asked.score]
        if not found.is_real:
            yield f"these questions do not tell it from {_title(best)}: {w.changed(found).line}"
    for key, why in report.unreachable.items():
        yield f"{_title(key)} is not here: {w.short(why, w.SENTENCE)}"
    if report.errors:
        left_out, why = w.count(report.left_out, "question"), w.short(report.first_error, w.SENTENCE)
        yield f"{w.count(report.errors, 'answer')} failed, {left_out} left out: {why}"


def _notes(report: TuneReport) -> Iterator[str]:
    asked, questions, course = report.asked, report.questions, report.course
    searched, reported = questions.searched, questions.reported
    asked_about = f"{w.count(reported.questions, 'question')} about {w.count(reported.images, 'image')}"
    yield (
        f"reported on {asked_about} that the search has not seen; "
        f"searched on {searched.questions} about {searched.images}"
    )
    yield (
        f"{w.count(len(course.tried), 'schedule')} tried with {course.answers} answers; "
        f"this run: {report.this_run.answered} new answers, {report.this_run.resumed} from the records"
    )
    if questions.other:
        yield f"{w.count(questions.other, 'other question')} not asked: {asked.score} is not of them"
    yield "differences: paired, 95% bootstrap over images · shares: 95% Wilson, by image"
    if report.found.profile is not None:
        yield f"reroute ask IMAGE QUESTION -p {report.found.profile}"


def _arms(report: TuneReport, *, verbose: bool) -> Table:
    """Every arm's scores on the reported half, and how far they are from what was found."""
    first, known = report.asked.score, report.arms[0].scores
    headers = [Column("schedule", "schedule"), Column("published", "published", on=(PAGE,))]
    headers.append(Column("tokens", "tokens/layer", right=True))
    for key in sorted(known, key=lambda key: key != first):
        on, part = (
            ((TEXT, PAGE) if key == first or verbose else (PAGE,)),
            "" if key == first else known[key].title,
        )
        headers.append(Column(key, w.short(known[key].title, 40), part=part, on=on))
        headers.append(Column(f"{key} dense", "− dense", right=True, part=part, on=(PAGE,)))
        headers.append(Column(f"{key} found", "tuned minus this", part=part, on=on))
    rows = []
    for arm in report.arms:
        role = w.role_of(arm.name, _action(arm.name))
        found = {"schedule": Cell(_title(arm.name), arm.name, role=role)}
        found["published"] = Cell("yes" if arm.published else "")
        found["tokens"] = w.tokens(None if arm.cost is None else arm.cost.visual_tokens_per_layer)
        for key in known:
            found[key], found[f"{key} dense"] = (
                w.scored(arm.scores.get(key)),
                w.changed(arm.to_dense.get(key)),
            )
            found[f"{key} found"] = w.changed(arm.to_found.get(key)) if arm.to_found else BLANK
        rows.append(found)
    return Table("On the half of the images that the search has not seen", tuple(headers), tuple(rows))


def _search(report: TuneReport, *, verbose: bool) -> Iterator[Chart | Table]:
    """Every schedule that was tried; the best of many looks better here than it is."""
    numbers, tried = ("tokens/layer", "questions", "score"), report.course.tried
    whole = Column("stages", "stages", on=(PAGE,))
    title = f"tried on the searched half ({min(len(tried), _SHOWN)} of {len(tried)})"
    cut = Column("cut", title, on=(TEXT,))
    headers = (Column("schedule", "schedule", on=(PAGE,)), whole, cut, *w.columns(*numbers, right=numbers))
    rows, dots = [], []
    for one in tried:
        score = Cell("broken" if one.value is None else w.plain_number(one.value), one.value)
        who = w.name(f"{one.method} {one.action}", w.role_of(None, one.action), _NAME)
        stages = (w.words(one.identity, 120), w.words(one.identity, 44))
        counts = (w.tokens(one.visual_tokens_per_layer), w.counted(one.questions))
        rows.append((who, *stages, *counts, score))
        if one.value is not None:
            said = f"{one.method} {one.action}, {one.identity}: {score.text} on {one.questions} questions"
            spent = one.visual_tokens_per_layer
            dots.append(charts.SearchDot(one.action, spent, one.value, one.questions, said))
    on, more = (TEXT, PAGE) if verbose else (PAGE,), "and {} more: --json has all"
    caption = "Every schedule that was tried, on the searched half"
    table = w.table(caption, headers, rows, folded=True, most=_SHOWN, more=more, on=on)
    score_part = report.arms[0].scores.get(report.asked.score)
    title = "score" if score_part is None else score_part.title
    if dots:
        yield Chart(
            title="The search, on its own half of the images",
            label="Score of every schedule that was tried against its visual tokens per layer",
            figure=charts.scatter(dots, "visual tokens/layer", w.short(title, 40)),
            data=table,
            note="no result: the best of many looks better here than it is; "
            "larger dots stand on more questions",
            span="full",
        )
    yield table
