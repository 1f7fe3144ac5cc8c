"""An evaluation, `reroute.eval/1`: how good answers are under each schedule, how surely, and every answer.

Arms down the side, everywhere. Knows the record and which scores a person looks at first; no writer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain, product

from reroute_cli.console import units
from reroute_cli.records.evaluation import (
    Evaluation,
    EvaluationArm,
    EvaluationItem,
    ScorePart,
    ScoresPart,
)
from reroute_cli.views import wording as w
from reroute_cli.views.document import (
    BLANK,
    DATA,
    NOT_KNOWN,
    PAGE,
    TEXT,
    ArmAnswer,
    Block,
    Cell,
    Column,
    Document,
    Gallery,
    GalleryItem,
    Table,
    Text,
    Tile,
    Tone,
)
from reroute_cli.views.subset import subset_tables, subset_warnings

_NAME = 24  # characters of an arm's name
_BESIDE = 14  # characters of the longest name that leave room for three intervals in 80 columns
_A_PART = 3  # scores beside one another: three of '0.71 [0.67, 0.75]' fit in 80 columns
_GROUPS = 7  # kinds of question beside one another
_GROUP = 10  # characters of a kind's name
_TWIN = "reroute minus prune"
_DATA = ("value", "low", "high", "n", "images", "interval", "only_this", "only_base", "mcnemar_p")
_OF_DIFFERENCES = {"interval": "bootstrap"}  # what they do not say of themselves
_TRUTH = 300  # characters of what is true


def document(report: Evaluation, *, verbose: bool = False) -> Document:
    """The scores and what they cost, kinds of question, what would mislead, how numbers were made."""
    arms = report.arms
    blocks: list[Block] = [Text(headline(report), Tone.HEADLINE)]
    for arm in arms[:5]:
        part = arm.overall.scores.get(next(iter(report.headlines), ""))
        if part is not None:
            note = f"95% {w.scored(part).note}, n\u00a0=\u00a0{part.n}"
            blocks.append(
                Tile(f"{part.title}, {title(arm)}", w.plain_number(part.value), note, _arm(arm).role)
            )
    every_score = {arm.name: arm.overall.scores for arm in arms}
    hard = subset_tables(report.subsets, {arm.name: _arm(arm) for arm in arms}, every_score, report.headlines)
    blocks += [_arms(report), *hard, *_by_kind(report, verbose=verbose)]
    numbers = ("only this", "only other", "p")
    headers = w.columns("McNemar", "against", "score", *numbers, right=numbers)
    names = {arm.name: _arm(arm) for arm in arms}
    tests = [
        (
            _arm(arm),
            names.get(part.base, w.name(part.base)),
            w.words(part.title),
            w.counted(part.only_this),
            w.counted(part.only_base),
            w.p_value(part),
        )
        for arm in arms
        for part in (*arm.overall.to_dense.values(), *arm.overall.to_prune.values())
        if part.mcnemar_p is not None
    ]
    if verbose and tests:
        blocks.append(w.table("McNemar's exact test", headers, tests, on=(TEXT,)))
    columns = ("value", "n", "images", "− dense", "p", "− prune", "p, prune")
    headers = w.columns("schedule", "score", *columns, right=columns)
    caption = "Every score; p is McNemar's exact test"
    every = [_score_row(arm, key) for arm in arms for key in arm.overall.scores]
    blocks.append(w.table(caption, headers, every, folded=True, on=(PAGE,)))
    # group is empty for all questions, minus for a score itself
    headers = w.columns("arm", "group", "score", "minus", *_DATA)
    rows = (
        w.raw(
            arm.name,
            group,
            key,
            getattr(score, "base", None),
            *(getattr(score, name, _OF_DIFFERENCES.get(name)) for name in _DATA),
        )
        for arm in arms
        for group, part in (("", arm.overall), *_parts_of(report, arm))
        for key, score in chain(part.scores.items(), part.to_dense.items(), part.to_prune.items())
    )
    blocks.append(w.table("Every score and difference", headers, rows, on=(DATA,)))
    blocks += w.texts(Tone.WARNING, warnings(report))
    blocks += w.texts(Tone.NOTE, _notes(report))
    return Document("eval", (*blocks, Gallery(tuple(_item(report, item) for item in report.items))))


def _parts_of(report: Evaluation, arm: EvaluationArm) -> Iterator[tuple[str, ScoresPart]]:
    """The arm's scores by kind of question, and over the questions that are hard for a smaller image."""
    yield from arm.groups.items()
    for subset in report.subsets:
        if arm.name in subset.arms:
            yield f"hard for {subset.control}", subset.arms[arm.name]


def title(arm: EvaluationArm) -> str:
    """The arm's name, as tables and sentences write it."""
    return w.arm_title(arm.name, arm.choice.action, _NAME)


def _arm(arm: EvaluationArm) -> Cell:
    return Cell(title(arm), arm.name, role=w.role_of(arm.name, arm.choice.action))


def headline(report: Evaluation) -> str:
    """What came out, in one sentence."""
    routed = report.arms[1:]
    if not report.headlines:
        return "nothing can be compared: there is no question that every schedule answered"
    if not routed:
        leading = (report.dense.overall.scores[key] for key in report.headlines)
        return f"dense: {', '.join(f'{part.title} {w.scored(part).line}' for part in leading)}"
    amount = w.amount_of(routed[0].choice)
    if len(routed) == 1:
        kept = "; ".join(_kept(report, routed[0], key) for key in report.headlines)
        return f"{title(routed[0])}{amount}: {kept}"
    best = []
    for key in report.headlines:  # of equals the one that is better in the other headlines
        ranks = [key, *report.headlines]
        arm = max(routed, key=lambda arm: [_value(arm, rank) for rank in ranks])
        best.append(f"{_kept(report, arm, key)} ({title(arm)})")
    return f"{len(routed)} schedules{amount}, at best: {'; '.join(best)}"


def _kept(report: Evaluation, arm: EvaluationArm, key: str) -> str:
    """'box Acc@0.5 0.71 of dense's 0.95, −0.24 [−0.28, −0.20]'."""
    dense, difference = report.dense.overall.scores[key], arm.overall.to_dense.get(key)
    if difference is None:
        return f"no {dense.title}"
    mine = w.plain_number(_value(arm, key))
    return f"{dense.title} {mine} of dense's {w.plain_number(dense.value)}, {w.changed(difference).line}"


def _value(arm: EvaluationArm, key: str) -> float:
    """A score; lower than any where the arm has none, which a quotient of nothing is."""
    found = arm.overall.scores.get(key)
    return -math.inf if found is None else found.value


def warnings(report: Evaluation) -> Iterator[str]:
    """What would mislead if it were not said."""
    yield from w.beware(report.model.weights, report.generation)
    yield from w.unsaving([title(arm) for arm in report.arms if arm.made.saves_nothing])
    for key in report.headlines:
        small = []  # '−0.01 [−0.04, 0.02]', or why there is no interval
        for arm, other in product(report.arms[1:], ("dense", "prune")):
            part = (arm.overall.to_dense if other == "dense" else arm.overall.to_prune).get(key)
            if part is None or part.is_real:
                continue
            said = w.changed(part).line
            if part.low is None:
                alike = part.only_this == part.only_base == 0
                said = "(each question alike)" if alike else f"{said} (no interval: {part.reasons['low']})"
            small.append(f"{title(arm)} minus {other} {said}")
        if small:
            dense = report.dense.overall.scores[key]
            asked = w.count(dense.n, "question")
            yield f"{dense.title}: not distinguishable from 0 on {asked}: {'; '.join(small)}"
    yield from subset_warnings(report.subsets)
    counts = report.counts
    if counts.errors:
        left_out = f"{w.count(counts.left_out, 'question')} left out of every score"
        why = w.short(report.first_error or "", w.SENTENCE)
        yield f"{w.count(counts.errors, 'answer')} failed, {left_out}: {why}"
    if cut := sum(arm.made.ended_by_limit for arm in report.arms):
        yield f"{w.count(cut, 'answer')} cut at --max-new-tokens {report.workload.max_new_tokens}"


def _notes(report: Evaluation) -> Iterator[str]:
    """How the numbers were made, of what, and by whom."""
    found, workload = report.workload.questions, report.workload
    of_all = "" if found.available in (None, found.asked) else f" of {found.available}, spread evenly"
    split = f", split {found.split}" if found.split else ""
    images = len({item.image for item in report.items})
    asked = f"{w.count(found.asked, 'question')}{of_all}, on {w.count(images, 'image')}"
    yield f"{w.short(found.title, 60)}{split}: {asked}"
    yield (
        "in brackets 95% intervals: Wilson's for shares, wider where an image's questions go together; "
        "a bootstrap over images for the rest, paired for differences"
    )
    if any(arm.overall.to_dense for arm in report.arms):
        yield "every schedule was asked the same questions; McNemar's exact test of each share: -v, --json"
    if report.dense.groups:
        titles = (report.dense.overall.scores[key].title for key in report.headlines)
        left = len(report.dense.groups) - len(_shown_kinds(report))
        more = f"; -v shows {left} more" if left else ""
        yield f"by kind: {' or '.join(titles)}, whichever the kind asks for{more}"
    for arm in report.arms:
        if (first := arm.made.first) is not None and first.resized is not None and arm.made.achieved_ratio:
            mine, dense = (one.cost.total_flops if one.cost else None for one in (arm, report.dense))
            yield (
                f"{title(arm)}: images made smaller before the processor, so that the vision tower does less "
                f"too: all FLOPs {units.ratio(mine, dense)} of dense, by arithmetic"
            )
    cost = next((arm.cost for arm in report.arms if arm.cost is not None), None)
    if cost is not None:
        yield (
            f"prefill FLOPs ({cost.flops_source}) and KV bytes ({cost.kv_source}) as parts of what the same "
            "answer takes dense; for times see reroute profile"
        )
    settings = f"batch {workload.batch_size}, at most {w.count(workload.max_new_tokens, 'new token')}"
    yield w.who(report.model, settings)


def _arms(report: Evaluation) -> Table:
    """Every arm: its scores, how far they are from dense and from pruning, and what its answers took.

    Costs are dense's own in numbers, and parts of them for every other arm.
    """
    known, many = report.dense.overall.scores, len(report.arms) > 1
    twins = any(arm.overall.to_prune for arm in report.arms)
    beside = max(len(title(arm)) for arm in report.arms) <= _BESIDE
    headers = [Column("schedule", "schedule")]
    for at, key in enumerate(report.headlines):
        score, part = w.short(known[key].title, 40), f"n={known[key].n}" + " " * at
        headers.append(Column(key, score, help=w.INTERVAL, part=part))
        headers += [Column(f"{key} dense", "minus dense", help=w.PAIRED, part=part)] if many else []
        if twins:
            help_ = "of a rerouted arm: minus the same method, pruning as much"
            headers.append(
                Column(f"{key} prune", _TWIN, help=help_, part=part if beside else f"{score}, too")
            )
    others = [key for key in known if key not in report.headlines]
    for at, key in enumerate(others):
        headers.append(Column(key, known[key].title, part=" " * (1 + at // _A_PART), on=(TEXT,)))
    costs = ("tokens/layer", "prefill", "KV cache", "new tokens")
    headers += w.columns(*costs, right=costs, part="mean")
    rows = []
    for index, arm in enumerate(report.arms):
        own, cost = arm.overall, arm.cost
        found = {"schedule": _arm(arm)} | dict.fromkeys(costs, NOT_KNOWN)
        for key in known:
            found[key] = w.scored(own.scores.get(key))
            found[f"{key} dense"] = w.changed(own.to_dense.get(key)) if index else BLANK
            found[f"{key} prune"] = w.changed(own.to_prune.get(key), BLANK)
        if cost is not None:
            found |= {
                "tokens/layer": w.tokens(cost.visual_tokens_per_layer),
                "new tokens": w.tokens(cost.new_tokens),
            }
            prefill, kv = Cell(units.flops(cost.prefill_flops), 1.0), Cell(units.size(cost.kv_end_bytes), 1.0)
            found |= {"prefill": w.times(cost.prefill_flops_ratio) if index else prefill}
            found |= {"KV cache": w.times(cost.kv_end_ratio) if index else kv}
        rows.append(found)
    amount = w.amount_of(report.arms[-1].choice)
    return Table(f"Every schedule{amount}: scores and mean costs", tuple(headers), tuple(rows))


def _shown_kinds(report: Evaluation) -> list[str]:
    """The kinds of question in their order; of very many, those that most questions are of."""
    groups = report.dense.groups
    counts = {kind: max((part.n for part in groups[kind].scores.values()), default=0) for kind in groups}
    most = sorted(groups, key=lambda kind: -counts[kind])[: 2 * _GROUPS]
    return [kind for kind in groups if kind in most]


def _by_kind(report: Evaluation, *, verbose: bool) -> Iterator[Table]:
    """Scores by kind of question: a column for each kind in text, for each arm on a page."""
    kinds = _shown_kinds(report)
    step = -(-len(kinds) // max(-(-len(kinds) // _GROUPS), 1)) or 1
    for start in range(0, 0 if verbose else len(kinds), step):
        some = kinds[start : start + step]
        names = (Column(kind, w.short(kind or "(none)", _GROUP), right=True) for kind in some)
        numbers = (_leading(report, report.dense.groups[kind]) for kind in some)
        rows = [[Cell("questions"), *(BLANK if part is None else w.counted(part.n) for part in numbers)]]
        for arm in report.arms:
            found = (_leading(report, arm.groups[kind]) for kind in some)
            plain = (NOT_KNOWN if part is None else Cell(w.plain_number(part.value)) for part in found)
            rows.append([_arm(arm), *plain])
        headers = (Column("schedule", "by kind"), *names)
        yield w.table("By kind of question", headers, rows, on=(TEXT,))
    if report.dense.groups:
        yield from _every_kind(report, verbose=verbose)


def _leading(report: Evaluation, part: ScoresPart) -> ScorePart | None:
    """The first headline score that is of these questions."""
    return next((part.scores[key] for key in report.headlines if key in part.scores), None)


def _every_kind(report: Evaluation, *, verbose: bool) -> Iterator[Table]:
    """Every kind with intervals: arms beside one another on a page, below one another under -v."""
    headers = [Column("kind", "kind of question"), Column("score", "score"), Column("n", "n", right=True)]
    headers += [Column(f"arm {arm.name}", title(arm), right=True) for arm in report.arms]
    wide, long = [], []
    for kind in report.dense.groups:
        for key in report.headlines:
            parts = {arm.name: arm.groups.get(kind) for arm in report.arms}
            dense = report.dense.groups[kind].scores.get(key)
            if dense is None:
                continue
            found = {
                "kind": w.name(kind or "(none)"),
                "score": w.words(dense.title, 40),
                "n": w.counted(dense.n),
            }
            for index, arm in enumerate(report.arms):
                part = parts[arm.name]
                score = NOT_KNOWN if part is None else w.scored(part.scores.get(key))
                difference = None if part is None else part.to_dense.get(key)
                found[f"arm {arm.name}"] = score
                against = w.changed(difference) if index else BLANK
                long.append((w.words(kind or "(none)", _GROUP), _arm(arm), score, against))
            wide.append(found)
    if wide:
        yield Table("By kind of question", tuple(headers), tuple(wide), on=(PAGE,))
    if verbose:
        narrow = w.columns("by kind", "arm", "[95%]", "minus dense")
        yield w.table("By kind of question", narrow, long, on=(TEXT,))


def _score_row(arm: EvaluationArm, key: str) -> Iterator[Cell]:
    """A score of an arm, and how far it is from dense and from pruning as much."""
    part = arm.overall.scores[key]
    yield from (_arm(arm), w.words(part.title, 40), w.scored(part))
    yield from (w.counted(part.n), w.counted(part.images))
    for found in (arm.overall.to_dense.get(key), arm.overall.to_prune.get(key)):
        yield from (w.changed(found), w.p_value(found))


def _item(report: Evaluation, item: EvaluationItem) -> GalleryItem:
    truth, said = item.truth, []
    for arm in report.arms:
        part, choice = item.said[arm.name], arm.choice
        pair = f"{(choice.method or '').partition('@')[0]} {choice.ratio} {choice.budget}"
        note = "" if part.iou is None else f"IoU {part.iou:.2f}"
        boxes = () if part.box is None else (part.box,)
        said.append(
            ArmAnswer(
                title(arm), _arm(arm).role, part.answer, pair, part.right, boxes, note, part.error or ""
            )
        )
    box = None if truth is None else truth.box
    told = (
        ""
        if truth is None
        else w.short(" or ".join(truth.answers), _TRUTH) or ("" if box is None else "a box")
    )
    group = w.short(item.group, 48)
    return GalleryItem(
        item.id,
        item.image,
        item.question,
        tuple(said),
        group=group,
        truth=told,
        truth_boxes=() if box is None else (box,),
    )
