"""An evaluation, `reroute.eval/1`: how good answers are under each schedule, how surely, and every answer.

Arms down the side, everywhere. Knows the record and which scores a person looks at first; no writer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from reroute_cli.console import units
from reroute_cli.records.evaluation import (
    DifferencePart,
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
    Block,
    Cell,
    Column,
    Document,
    Gallery,
    Item,
    Said,
    Table,
    Text,
    Tile,
    Tone,
)

_NAME = 24  # characters of an arm's name
_BESIDE = 14  # characters of the longest name that leave room for three intervals in 80 columns
_A_PART = 3  # scores beside one another: three of '0.71 [0.67, 0.75]' fit in 80 columns
_GROUPS = 7  # kinds of question beside one another
_GROUP = 10  # characters of a kind's name
_TWIN = "reroute minus prune"
_NUMBERS = ("value", "low", "high", "n", "pictures", "interval")
_TESTS = ("only_this", "only_base", "mcnemar_p")
_TRUTH = 300  # characters of what is true


def document(report: Evaluation, *, verbose: bool = False) -> Document:
    """The scores and what they cost, kinds of question, what would mislead, how numbers were made."""
    blocks: list[Block] = [Text(headline(report), Tone.HEADLINE), *_tiles(report), _arms(report)]
    blocks += _by_kind(report, verbose=verbose)
    blocks += [_tests(report)] if verbose else []
    blocks += [_scores(report), _data(report)]
    blocks += w.texts(Tone.WARNING, warnings(report))
    blocks += w.texts(Tone.NOTE, _notes(report))
    return Document("eval", (*blocks, Gallery(tuple(_item(report, item) for item in report.items))))


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
    for key in report.headlines:
        small = [found for arm in report.arms[1:] for found in _small(arm, key)]
        if small:
            part = report.dense.overall.scores[key]
            asked = w.count(part.n, "question")
            yield f"{part.title}: not distinguishable from 0 on {asked}: {'; '.join(small)}"
    counts = report.counts
    if counts.errors:
        left_out = f"{w.count(counts.left_out, 'question')} left out of every score"
        why = w.short(report.first_error or "", w.SENTENCE)
        yield f"{w.count(counts.errors, 'answer')} failed, {left_out}: {why}"
    if cut := sum(arm.made.ended_by_limit for arm in report.arms):
        yield f"{w.count(cut, 'answer')} cut at --max-new-tokens {report.workload.max_new_tokens}"


def _small(arm: EvaluationArm, key: str) -> Iterator[str]:
    """The arm's differences that may be none: '−0.01 [−0.04, 0.02]', or why there is no interval."""
    for parts, other in ((arm.overall.to_dense, "dense"), (arm.overall.to_prune, "prune")):
        part = parts.get(key)
        if part is None or part.is_real:
            continue
        said = w.changed(part).line
        if part.low is None:
            alike = part.only_this == part.only_base == 0
            said = "(each question alike)" if alike else f"{said} (no interval: {part.reasons['low']})"
        yield f"{title(arm)} minus {other} {said}"


def _notes(report: Evaluation) -> Iterator[str]:
    """How the numbers were made, of what, and by whom."""
    found, workload = report.workload.questions, report.workload
    of_all = "" if found.available in (None, found.asked) else f" of {found.available}, spread evenly"
    split = f", split {found.split}" if found.split else ""
    images = len({item.image for item in report.items})
    asked = f"{w.count(found.asked, 'question')}{of_all}, on {w.count(images, 'picture')}"
    yield f"{w.short(found.title, 60)}{split}: {asked}"
    yield (
        "in brackets 95% intervals: Wilson's for shares, wider where a picture's questions go together; "
        "a bootstrap over pictures for the rest, paired for differences"
    )
    if any(arm.overall.to_dense for arm in report.arms):
        yield "every schedule was asked the same questions; McNemar's exact test of each share: -v, --json"
    if report.dense.groups:
        titles = (report.dense.overall.scores[key].title for key in report.headlines)
        left = len(report.dense.groups) - len(_shown_kinds(report))
        more = f"; -v shows {left} more" if left else ""
        yield f"by kind: {' or '.join(titles)}, whichever the kind asks for{more}"
    cost = next((arm.cost for arm in report.arms if arm.cost is not None), None)
    if cost is not None:
        yield (
            f"prefill FLOPs ({cost.flops_source}) and KV bytes ({cost.kv_source}) as parts of what the same "
            "answer takes dense; for times see reroute profile"
        )
    settings = f"batch {workload.batch_size}, at most {w.count(workload.max_new_tokens, 'new token')}"
    yield w.who(report.model, settings)


def _tiles(report: Evaluation) -> Iterator[Tile]:
    """The first headline score of the dense model and of every schedule, at most five."""
    for key in report.headlines[:1]:
        for arm in report.arms[:5]:
            part = arm.overall.scores.get(key)
            if part is not None:
                note = f"95% {w.scored(part).note}, n\u00a0=\u00a0{part.n}"
                yield Tile(f"{part.title}, {title(arm)}", w.plain_number(part.value), note, _arm(arm).role)


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
        headers = (
            Column("schedule", "by kind"),
            *(Column(kind, w.short(kind or "(none)", _GROUP), right=True) for kind in some),
        )
        numbers = (_leading(report, report.dense.groups[kind]) for kind in some)
        rows = [
            w.row(
                headers,
                (Cell("questions"), *(BLANK if part is None else w.counted(part.n) for part in numbers)),
            )
        ]
        for arm in report.arms:
            found = (_leading(report, arm.groups[kind]) for kind in some)
            plain = (NOT_KNOWN if part is None else Cell(w.plain_number(part.value)) for part in found)
            rows.append(w.row(headers, (_arm(arm), *plain)))
        yield Table("By kind of question", headers, tuple(rows), on=(TEXT,))
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
        yield Table("By kind of question", narrow, tuple(w.row(narrow, cells) for cells in long), on=(TEXT,))


def _tests(report: Evaluation) -> Table:
    """McNemar's test of every share: how many questions only one of two arms has right."""
    numbers = ("only this", "only other", "p")
    headers = w.columns("McNemar", "against", "score", *numbers, right=numbers)
    names, rows = {arm.name: _arm(arm) for arm in report.arms}, []
    for arm in report.arms:
        for part in (*arm.overall.to_dense.values(), *arm.overall.to_prune.values()):
            if part.mcnemar_p is not None:
                counts = (w.counted(part.only_this), w.counted(part.only_base), w.p_value(part.mcnemar_p))
                base = names.get(part.base, w.name(part.base))
                rows.append(w.row(headers, (_arm(arm), base, w.words(part.title), *counts)))
    return Table("McNemar's exact test", headers, tuple(rows), on=(TEXT,) if rows else ())


def _scores(report: Evaluation) -> Table:
    numbers = ("value", "n", "pictures", "− dense", "p", "− prune", "p, prune")
    headers = w.columns("schedule", "score", *numbers, right=numbers)
    rows = []
    for arm in report.arms:
        for key, part in arm.overall.scores.items():
            dense, prune = arm.overall.to_dense.get(key), arm.overall.to_prune.get(key)
            cells = [
                _arm(arm),
                w.words(part.title, 40),
                w.scored(part),
                w.counted(part.n),
                w.counted(part.pictures),
            ]
            for found in (dense, prune):
                cells += [w.changed(found), w.p_value(None if found is None else found.mcnemar_p)]
            rows.append(w.row(headers, cells))
    return Table("Every score; p is McNemar's exact test", headers, tuple(rows), folded=True, on=(PAGE,))


def _data(report: Evaluation) -> Table:
    """A row for each score and difference; group is empty for all questions, minus for a score itself."""
    headers = w.columns("arm", "group", "score", "minus", *_NUMBERS, *_TESTS)
    rows = []
    for arm in report.arms:
        for group, part in (("", arm.overall), *arm.groups.items()):
            found: list[tuple[str, ScorePart | DifferencePart]] = [
                *part.scores.items(),
                *part.to_dense.items(),
                *part.to_prune.items(),
            ]
            for key, score in found:
                more = {
                    "minus": getattr(score, "base", None),
                    "interval": getattr(score, "interval", "bootstrap"),
                }
                fields = (
                    more[field] if field in more else getattr(score, field, None)
                    for field in (*_NUMBERS, *_TESTS)
                )
                rows.append(w.row(headers, w.raw(arm.name, group, key, more["minus"], *fields)))
    return Table("Every score and difference", headers, tuple(rows), on=(DATA,))


def _item(report: Evaluation, item: EvaluationItem) -> Item:
    truth, said = item.truth, []
    for arm in report.arms:
        part, choice = item.said[arm.name], arm.choice
        pair = f"{(choice.method or '').partition('@')[0]} {choice.ratio} {choice.budget}"
        note = "" if part.iou is None else f"IoU {part.iou:.2f}"
        boxes = () if part.box is None else (part.box,)
        said.append(
            Said(title(arm), _arm(arm).role, part.answer, pair, part.right, boxes, note, part.error or "")
        )
    box = None if truth is None else truth.box
    told = (
        ""
        if truth is None
        else w.short(" or ".join(truth.answers), _TRUTH) or ("" if box is None else "a box")
    )
    group = w.short(item.group, 48)
    return Item(
        item.id,
        item.image,
        item.question,
        tuple(said),
        group=group,
        truth=told,
        truth_boxes=() if box is None else (box,),
    )
