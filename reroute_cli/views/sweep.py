"""A sweep, `reroute.sweep/1`: scores with prune beside reroute, costs, and the Pareto fronts.

Knows the record; no writer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, product

from reroute_cli.console import units
from reroute_cli.records.evaluation import DifferencePart
from reroute_cli.records.metrics import METRICS
from reroute_cli.records.sweep import ActionPair, Asked, FrontPart, ScoreName, SweepArm, SweepReport, pairs_of
from reroute_cli.views import wording as w
from reroute_cli.views.document import (
    BLANK,
    DATA,
    NOT_KNOWN,
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
from reroute_cli.views.subset import subset_tables, subset_warnings
from reroute_cli.views.write import charts

COSTS = {
    "visual_tokens_per_layer": "visual tokens/layer",
    "prefill_flops": "prefill FLOPs",
    "kv": "KV cache",
    "kv_end": "KV cache",
    "ttft": "TTFT",
    "e2e": "end to end",
}
_COSTS = ("prefill_flops", "kv_prefill", "kv_end", "ttft", "e2e")
_ON_FRONT, _NEAR_FRONT, _NO_DIFFERENCE = "•", "~", "≈"
_PLACE = 30  # characters of a method with its layers
_DATA = ("kind", "name", "base", "value", "low", "high", "n", "p", "source", "unit", "unknown")


def document(report: SweepReport, *, verbose: bool = False) -> Document:
    """The scores, the costs, the fronts, and what to know before quoting any of it.

    verbose: every score, and what beats the arms that are on no front.
    """
    lines = pairs_of(
        report.arms[1:],
        lambda arm: Asked(
            arm.name, arm.place, arm.method, arm.action, arm.ratio, arm.budget, arm.decision_layers
        ),
    )
    fronts = {front.score: front for front in report.fronts}
    scores = report.scores if verbose else report.shown
    blocks: list[Block] = [Text(headline(report), Tone.HEADLINE), *_tiles(report), _arms(report, fronts)]
    blocks += _plots(report, fronts)
    blocks += [_prune_beside_reroute(report, lines, score, fronts[score.name]) for score in scores]
    blocks += subset_tables(
        report.subsets,
        {arm.name: label(arm) for arm in report.asked},
        {arm.name: arm.scores for arm in report.asked},
        [score.name for score in report.shown],
    )
    blocks += [_costs(lines)] if report.scores else []
    for score in scores:
        blocks += _front(report, score, fronts[score.name], verbose=verbose)
    blocks += _more(report)
    blocks += w.texts(Tone.WARNING, _warnings(report))
    return Document("sweep", (*blocks, *w.texts(Tone.NOTE, _notes(report))))


def label(arm: SweepArm) -> Cell:
    """'pdrop-reroute 0.889' -> 'pdrop reroute 0.889', in the arm's colour."""
    return Cell(w.arm_title(arm.name, arm.action, w.NAME), arm.name, role=w.role_of(arm.name, arm.action))


def headline(report: SweepReport) -> str:
    """'reroute against prune at equal amounts: box Acc@0.5 better in 9 of 12, worse in 0 · ...'."""
    if not report.pairs:
        return f"{w.count(len(report.asked), 'arm')} over {w.count(report.counts.compared, 'question')}"
    found = []
    for score in report.shown:
        parts = [pair.scores[score.name] for pair in report.pairs if score.name in pair.scores]
        better = sum(part.is_real and part.value > 0 for part in parts)
        worse = sum(part.is_real and part.value < 0 for part in parts)
        found.append(f"{score.title} better in {better} of {len(parts)}, worse in {worse}")
    return f"reroute against prune at equal amounts: {' · '.join(found)}"


def _warnings(report: SweepReport) -> Iterator[str]:
    """What would mislead if it were not said; an arm's refusals by the reason of its least reduction."""
    refused, told = [arm for arm in report.arms if arm.refused is not None], []
    for _, group in groupby(refused, key=lambda arm: (arm.place, arm.action)):
        arms = list(group)
        amounts = ", ".join(f"{arm.ratio if arm.ratio is not None else arm.budget:g}" for arm in arms)
        told.append(f"not asked at {amounts}: {w.short(arms[0].refused or '', w.SENTENCE)}")
    yield from dict.fromkeys(told)
    if report.scores and not report.fronts[0].arms:
        cost = report.fronts[0].cost
        why = w.short(report.arms[0].unknown.get(cost, "nothing was measured"), w.SENTENCE)
        yield f"no front without {COSTS[cost]}: {why}; try --against visual-tokens"
    if left := report.counts.items - report.counts.compared:
        why = w.short(report.first_error or "", w.SENTENCE)
        yield f"{w.count(left, 'question')} without an answer of every arm are in no score: {why}"
    yield from w.beware(report.model.weights, report.generation)
    yield from subset_warnings(report.subsets)
    yield from w.unsaving([label(arm).text for arm in report.asked if arm.made and arm.made.saves_nothing])


def _notes(report: SweepReport) -> Iterator[str]:
    """How the numbers were made."""
    counts, made, model = report.counts, report.costs, report.model
    yield (
        f"{w.count(counts.compared, 'question')} about {w.count(counts.images, 'image')}, "
        "each under every arm; beside a score its difference to dense, ≈ where its interval holds 0"
    )
    yield (
        "intervals: paired bootstrap over images, 95%, of scores Wilson's; p: McNemar's exact test; none "
        "is corrected for the number of comparisons"
    )
    yield (
        "• on the Pareto front: nobody scores higher at no more cost, or as high for less; "
        "~ beaten by an arm of it, but not clearly: the interval of the difference holds 0"
    )
    if made.items:
        rounds = f"{w.count(len(made.items), 'item')} × {w.count(made.rounds, 'round')}"
        yield (
            f"costs relative to dense, measured on {rounds} after {w.count(made.warmup, 'warm-up round')}, "
            f"arms interleaved, {w.count(made.new_tokens, 'new token')} forced; times are ratios of p50"
        )
    else:
        yield "costs are estimated from the answers, relative to dense; times were not measured"
    yield w.who(
        model,
        w.machine(model, report.environment),
        f"batch {report.batch_size}",
    )


def _tiles(report: SweepReport) -> Iterator[Tile]:
    """The dense score, and the best of rerouting and of pruning at the largest reduction they share."""
    for score in report.shown[:1]:
        dense = report.arms[0].scores.get(score.name)
        if dense is not None:
            note = f"95% {w.scored(dense).note}, n\u00a0=\u00a0{dense.n}"
            yield Tile(f"{score.title}, dense", w.plain_number(dense.value), note, "dense")
        if pairs := [pair for pair in report.pairs if score.name in pair.scores]:
            pair = max(pairs, key=lambda pair: (pair.ratio or 0, pair.scores[score.name].value))
            for arm in (report.arm(pair.prune), report.arm(pair.reroute)):
                cell, who_ = w.scored(arm.scores[score.name]), label(arm)
                yield Tile(f"{score.title}, {who_.text}", cell.text, f"95% {cell.note}", who_.role)
    counts = report.counts
    yield Tile("questions answered by every arm", f"{counts.compared:,}", f"of {counts.items:,}")


def _arms(report: SweepReport, fronts: dict[str, FrontPart]) -> Table:
    """A row for each arm that was asked."""
    costs = [key for key in _COSTS if any(key in arm.costs for arm in report.asked[1:])]
    headers = [
        Column("schedule", "schedule"),
        Column("ratio", "ratio", right=True, help="reduction ratio asked for"),
    ]
    headers.append(
        Column("tokens", "tokens/layer", right=True, help=METRICS["visual_tokens_per_layer"].means)
    )
    for score in report.shown:
        headers.append(Column(score.name, w.short(score.title, 40), right=True, help=w.INTERVAL))
        headers.append(Column(f"{score.name} dense", "− dense", right=True, help=w.PAIRED))
        help_ = "on the Pareto front of this score and cost"
        headers.append(Column(f"{score.name} front", "front", help=help_))
    headers += [Column(key, METRICS[key].short, right=True, help="over dense's") for key in costs]
    rows = []
    for arm in report.asked:
        found = {
            "schedule": label(arm),
            "ratio": _asked(arm),
            "tokens": w.tokens(arm.visual_tokens_per_layer),
        }
        for score in report.shown:
            found[score.name] = w.scored(arm.scores.get(score.name))
            found[f"{score.name} dense"] = w.changed(arm.to_dense.get(score.name))
            mark = _marks(fronts[score.name]).get(arm.name) if score.name in fronts else None
            places = {
                _ON_FRONT: Cell("• on it", 0.0, tone="good"),
                _NEAR_FRONT: Cell("~ near it", 1.0, tone="faint"),
            }
            found[f"{score.name} front"] = places.get(mark or "", Cell("", 2.0))
        rows.append(found | {key: _relative(arm, key) for key in costs})
    return Table("Every schedule: scores and costs", tuple(headers), tuple(rows), on=(PAGE,))


def _asked(arm: SweepArm | ActionPair[SweepArm]) -> Cell:
    """'0.889', or '64 tokens'."""
    if arm.ratio is not None:
        return Cell(f"{arm.ratio:g}", arm.ratio)
    return NOT_KNOWN if arm.budget is None else Cell(f"{arm.budget:g} tokens", arm.budget)


def _relative(arm: SweepArm, key: str) -> Cell:
    """A cost over dense's with the interval; dense's own in its unit."""
    part = arm.costs.get(key)
    if part is None:
        return NOT_KNOWN
    if part.ratio_to_dense is None:
        whole = "1.00×" if arm.name == "dense" else units.UNKNOWN
        return Cell(whole, 1.0, w.number(key, part.value).text)
    interval = "" if part.low is None or part.low == part.high else f"[{part.low:.2f}, {part.high:.2f}]"
    return Cell(f"{part.ratio_to_dense:.2f}×", part.ratio_to_dense, interval)


def _marks(front: FrontPart) -> dict[str, str]:
    """By name: on the front, or beaten by an arm of it but not clearly."""
    near = {part.arm: _NEAR_FRONT for part in front.beaten if not part.score.is_real}
    return near | dict.fromkeys(front.arms, _ON_FRONT)


def _prune_beside_reroute(
    report: SweepReport, lines: Sequence[ActionPair[SweepArm]], score: ScoreName, front: FrontPart
) -> Table:
    """One score: a line for each method and amount, and how its two arms differ."""
    marks = _marks(front)
    found = {(pair.prune, pair.reroute): pair.scores.get(score.name) for pair in report.pairs}
    headers = (
        Column("place", "method"),
        Column("amount", score.title, right=True),
        Column("prune", "prune", right=True),
        Column("reroute", "reroute", right=True),
        Column("difference", "reroute − prune [95%]", right=True),
        Column("p", "p" if score.share else "", right=True, help="McNemar's exact test"),
    )
    rows = [[Cell("dense"), BLANK, _score(report.arms[0], score.name, marks), BLANK, BLANK, BLANK]]
    for line in lines:
        part = found.get((line.prune.name if line.prune else "", line.reroute.name if line.reroute else ""))
        both = (_score(arm, score.name, marks) for arm in (line.prune, line.reroute))
        difference = (w.changed(part, BLANK), w.p_value(part, BLANK))
        rows.append([Cell(w.short(line.place, _PLACE)), _asked(line), *both, *difference])
    caption = f"{w.short(score.title, 40)}: prune beside reroute"
    return w.table(caption, headers, rows, grouped=True, on=(TEXT, PAGE) if score.shown else (TEXT,))


def _score(arm: SweepArm | None, key: str, marks: dict[str, str]) -> Cell:
    """'•0.51 −0.43': the score, and the difference to dense; ≈ before one that may be none."""
    if arm is None:
        return BLANK
    found, dense = arm.scores.get(key), arm.to_dense.get(key)
    if found is None:
        return NOT_KNOWN
    note = "" if dense is None else _unless_real(dense) + w.signed_number(dense.value)
    return Cell(marks.get(arm.name, "") + w.plain_number(found.value), found.value, note)


def _unless_real(part: DifferencePart) -> str:
    return "" if part.is_real else _NO_DIFFERENCE


def _costs(lines: Sequence[ActionPair[SweepArm]]) -> Table:
    """What the arms of each line cost: 'prune · reroute' in each cell, over the dense arm's cost."""
    arms = [arm for line in lines for arm in (line.prune, line.reroute) if arm is not None]
    keys = [
        key
        for key in ("prefill_flops", "kv", "ttft")
        if any(_ratio(arm, key) != units.UNKNOWN for arm in arms)
    ]
    headers = (
        Column("place", "method"),
        Column("amount", "prune · reroute", right=True),
        *(Column(key, COSTS[key], right=True) for key in ("visual_tokens_per_layer", *keys)),
    )
    rows = []
    for line in lines:
        both = [arm for arm in (line.prune, line.reroute) if arm is not None]
        cells = [Cell(w.short(line.place, _PLACE)), _asked(line)]
        cells.append(Cell(" · ".join(units.tokens(arm.visual_tokens_per_layer) for arm in both)))
        cells += [Cell(" · ".join(_ratio(arm, key) for arm in both)) for key in keys]
        rows.append(cells)
    return w.table("Costs, prune · reroute", headers, rows, grouped=True, on=(TEXT,))


def _ratio(arm: SweepArm, key: str) -> str:
    """An arm's cost over the dense one's: '0.32×'."""
    keys = ("kv_prefill", "kv_end") if key == "kv" else (key,)
    found = next((arm.costs[one].ratio_to_dense for one in keys if one in arm.costs), None)
    return units.UNKNOWN if found is None else f"{found:.2f}×"


def _front(report: SweepReport, score: ScoreName, front: FrontPart, *, verbose: bool) -> Iterator[Table]:
    """The arms of the front, cheapest first, and how many each of them beats; verbose: which ones."""
    numbers = (COSTS[front.cost], f"{score.title} [95%]")
    headers = w.columns(
        "Pareto front", *numbers, "beats", _NEAR_FRONT, right=(*numbers, "beats", _NEAR_FRONT)
    )
    rows = []
    for arm in map(report.arm, front.arms):
        clear = [part.score.is_real for part in front.beaten if part.by == arm.name]
        scored, beats = w.scored(arm.scores[score.name]), sum(clear)
        counts = (w.counted(beats), w.counted(len(clear) - beats))
        rows.append((w.name(arm.name, most=_PLACE), _cost(arm, front.cost), scored, *counts))
    yield w.table("Pareto front", headers, rows, on=(TEXT,))
    if verbose and front.beaten:
        others = w.columns("not on the front", *numbers, "beaten by", right=numbers)
        beaten = (
            (
                w.name(part.arm, most=_PLACE),
                _cost(report.arm(part.arm), front.cost),
                Cell(_unless_real(part.score) + w.changed(part.score).line),
                w.name(part.by, most=_PLACE),
            )
            for part in front.beaten
        )
        yield w.table("Not on the front", others, beaten, on=(TEXT,))


def _cost(arm: SweepArm, key: str) -> Cell:
    """'0.32×', or tokens, whose number says more than their share."""
    part = arm.costs[key]
    if part.unit == "tokens":
        return w.tokens(part.value)
    return Cell("1×" if part.ratio_to_dense is None else f"{part.ratio_to_dense:.2f}×", part.ratio_to_dense)


def _more(report: SweepReport) -> Iterator[Table]:
    """Every score, the arms that the model can't reach, and every number as data."""
    numbers = ("value", "n", "images", "− dense")
    headers = w.columns("schedule", "score", *numbers, right=numbers)
    rows = []
    for arm, score in product(report.asked, report.scores):
        cells, part = [NOT_KNOWN] * len(numbers), arm.scores.get(score.name)
        if part is not None:
            difference = w.changed(arm.to_dense.get(score.name))
            cells = [w.scored(part), w.counted(part.n), w.counted(part.images), difference]
        rows.append((label(arm), w.words(score.title, 40), *cells))
    yield w.table("Every score", headers, rows, folded=True, on=(PAGE,))
    if refused := [arm for arm in report.arms if arm.refused is not None]:
        why = ((label(arm), w.words(arm.refused, 300)) for arm in refused)
        yield w.table("Not asked", w.columns("schedule", "why"), why, folded=True, on=(PAGE,))
    of_arm = ("arm", "place", "action", "ratio", "budget", "visual_tokens_per_layer")
    data = []
    for arm in report.arms:
        own = w.raw(arm.name, arm.place, arm.action, arm.ratio, arm.budget, arm.visual_tokens_per_layer)
        twins = (pair.scores for pair in report.pairs if pair.reroute == arm.name)
        found = (*_numbers(arm), *(one for parts in twins for one in _differences(parts)))
        data += [(*own, *w.raw(*map(number.get, _DATA))) for number in found]
    yield w.table("Every number", w.columns(*of_arm, *_DATA), data, on=(DATA,))


def _plots(report: SweepReport, fronts: dict[str, FrontPart]) -> Iterator[Chart]:
    """A plot for each shown score, against the cost of its front."""
    for score in report.shown:
        front, what = fronts.get(score.name), w.short(score.title, 40)
        if front is None or not any(front.cost in arm.costs for arm in report.asked):
            continue
        against = COSTS.get(front.cost, METRICS[front.cost].label if front.cost in METRICS else "cost")
        x = against if front.cost == "visual_tokens_per_layer" else f"{against}, × dense"
        series = list(_series(report, score, front.cost))
        points = {point.name: point for one in series for point in one.points}
        rows = (
            (
                label(report.arm(key)),
                Cell(f"{point.x:.3g}", point.x),
                w.scored(report.arm(key).scores[score.name]),
                Cell("on it" if key in front.arms else ""),
            )
            for key, point in points.items()
        )
        staircase = [points[key] for key in front.arms if key in points]
        yield Chart(
            title=f"{what} against {against}",
            label=f"{what} of every schedule against its cost, with 95% intervals; better: up, to the left",
            figure=charts.pareto(series, staircase, x, what),
            data=w.table(
                f"{what} against {x}", w.columns("schedule", x, what, "front", right=(x, what)), rows
            ),
            note="up and to the left is better; bars are 95% intervals; the grey line is the Pareto front",
            span="full",
        )


def _series(report: SweepReport, score: ScoreName, cost: str) -> Iterator[charts.ArmPoints]:
    """The arms that have this score and this cost, those of one method and action together."""
    places = list(dict.fromkeys(arm.place for arm in report.asked))
    groups: dict[tuple[str, str | None], list[charts.ArmPoint]] = {}
    for arm in report.asked:
        part, spent = arm.scores.get(score.name), arm.costs.get(cost)
        if part is None or spent is None:
            continue
        x = spent.ratio_to_dense if arm.ratio is not None or arm.budget is not None else 1.0
        x = spent.value if spent.unit == "tokens" else x
        if x is None:
            continue
        said, difference = (
            f"{label(arm).text}: {w.scored(part).line} at {x:.3g}",
            arm.to_dense.get(score.name),
        )
        said += "" if difference is None else f", {w.signed_number(difference.value)} to dense"
        point = charts.ArmPoint(arm.name, x, part.value, part.low, part.high, said)
        groups.setdefault((arm.place, arm.action), []).append(point)
    for (place, action), points in groups.items():
        ordered = tuple(sorted(points, key=lambda point: (point.x, point.name)))
        said = place if action is None else f"{place} {action}"
        yield charts.ArmPoints(said, w.role_of(place, action), places.index(place), ordered)


_Number = dict[str, str | float | None]  # by the names of _DATA


def _differences(parts: dict[str, DifferencePart]) -> Iterator[_Number]:
    for key, part in parts.items():
        found = {"value": part.value, "low": part.low, "high": part.high, "n": part.n, "p": part.mcnemar_p}
        yield {
            "kind": "difference",
            "name": key,
            "base": part.base,
            **found,
            "source": "measured",
            "unit": "share",
        }


def _numbers(arm: SweepArm) -> Iterator[_Number]:
    if arm.refused is not None:
        yield {"kind": "refused", "unknown": arm.refused}
    for key, score in arm.scores.items():
        found = {"value": score.value, "low": score.low, "high": score.high, "n": score.n}
        yield {"kind": "score", "name": key, **found, "source": "measured", "unit": "share"}
    yield from _differences(arm.to_dense)
    for key, cost in arm.costs.items():
        made: _Number = {"name": key, "n": cost.n, "source": cost.source}
        yield {"kind": "cost", "value": cost.value, **made, "unit": cost.unit}
        if cost.ratio_to_dense is not None:
            made |= {"value": cost.ratio_to_dense, "low": cost.low, "high": cost.high}
            yield {"kind": "ratio", "base": "dense", **made, "unit": "share"}
    for key, reason in arm.unknown.items():
        yield {"kind": "cost", "name": key, "unknown": reason}
