"""A sweep as a page: prune beside reroute, what each costs, and the Pareto front.

Knows reports and how numbers are written; neither terminals nor Markdown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from reroute_cli import units
from reroute_cli.records.score import DifferencePart, ScorePart
from reroute_cli.records.sweep import FrontPart, PairPart, ScoreName, SweepArm, SweepReport
from reroute_cli.reporting.blocks import Block, Say, Table, Tone
from reroute_cli.reporting.words import short
from reroute_cli.sweeping.lines import Line, lines_of
from reroute_cli.sweeping.sentences import COSTS, headline, notes, warnings

_PLACE = 30  # characters of a method with its layers
_SAME = "≈"  # before what can't be told from nothing
_COLUMNS = ("prefill_flops", "kv", "ttft")


def page(report: SweepReport, *, verbose: bool = False) -> list[Block]:
    """The headline, the scores, the costs, the front, and what to know before quoting any of it."""
    lines = lines_of(report)
    scores = report.scores if verbose else report.shown
    blocks: list[Block] = [Say(headline(report), Tone.HEADLINE)]
    blocks += [_score_table(report, lines, score) for score in scores]
    blocks.append(_cost_table(lines))
    blocks += [
        table
        for score in scores
        for front in report.fronts
        if front.score == score.name
        for table in _front_tables(report, score, front, verbose=verbose)
    ]
    blocks += [Say(text, Tone.WARNING) for text in warnings(report)]
    return blocks + [Say(text) for text in notes(report)]


def _score_table(report: SweepReport, lines: Sequence[Line], score: ScoreName) -> Table:
    pairs = {(pair.prune, pair.reroute): pair for pair in report.pairs}
    rows: list[tuple[str, ...]] = [("dense", _value(report.arms[0].scores.get(score.name)), "", "", "")]
    for place, group in groupby(lines, key=lambda line: line.place):
        rows.append((short(place, _PLACE), "", "", "", ""))
        for line in group:
            cells = [_score_cell(arm, score.name) for arm in (line.prune, line.reroute)]
            rows.append((f"  {line.amount}", *cells, *_compared(line, pairs, score)))
    headers = (score.title, "prune", "reroute", "reroute − prune [95%]", "p" if score.share else "")
    return Table(headers, tuple(rows), right=(1, 2, 3, 4))


def _compared(line: Line, pairs: dict[tuple[str, str], PairPart], score: ScoreName) -> tuple[str, str]:
    """The difference of a line's two arms, and McNemar's p."""
    if line.prune is None or line.reroute is None:
        return "", ""
    pair = pairs.get((line.prune.name, line.reroute.name))
    found = pair.scores.get(score.name) if pair else None
    if found is None:
        return units.UNKNOWN, ""
    return difference(found), "" if found.mcnemar_p is None else p_value(found.mcnemar_p)


def _value(score: ScorePart | None) -> str:
    return units.UNKNOWN if score is None else f"{score.value:.3f}"


def _score_cell(arm: SweepArm | None, score: str) -> str:
    """'0.512 −0.428': the score, and the difference to dense; ≈ before one that may be none."""
    if arm is None:
        return ""
    found, dense = arm.scores.get(score), arm.to_dense.get(score)
    if found is None or dense is None:
        return units.UNKNOWN
    return f"{found.value:.3f} {'' if dense.is_real else _SAME}{signed(dense.value)}"


def signed(value: float, digits: int = 3) -> str:
    """'+0.219', '−0.050', '0.000'."""
    text = f"{abs(value):.{digits}f}"
    return text if not float(text) else f"{'+' if value > 0 else '−'}{text}"


def difference(part: DifferencePart) -> str:
    """'+0.219 [+0.17, +0.27]'."""
    if part.low is None or part.high is None:
        return signed(part.value)
    return f"{signed(part.value)} [{signed(part.low, 2)}, {signed(part.high, 2)}]"


def p_value(p: float) -> str:
    """'0.032', or '<0.001'."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _cost_table(lines: Sequence[Line]) -> Table:
    """prune · reroute in each cell."""
    rows = []
    for place, group in groupby(lines, key=lambda line: line.place):
        rows.append((short(place, _PLACE), *[""] * (1 + len(_COLUMNS))))
        for line in group:
            both = [arm for arm in (line.prune, line.reroute) if arm is not None]
            tokens = " · ".join(units.tokens(arm.average_visual) for arm in both)
            ratios = [" · ".join(_ratio(arm, name) for arm in both) for name in _COLUMNS]
            rows.append((f"  {line.amount}", tokens, *ratios))
    headers = ("prune · reroute", "visual tokens/layer", *(COSTS[name] for name in _COLUMNS))
    return Table(headers, tuple(rows), right=tuple(range(1, 2 + len(_COLUMNS))))


def _ratio(arm: SweepArm, name: str) -> str:
    """An arm's cost over the dense one's: '0.32×'."""
    names = ("kv_prefill", "kv_end") if name == "kv" else (name,)
    found = next((arm.costs[one].ratio for one in names if one in arm.costs), None)
    return units.UNKNOWN if found is None else f"{found:.2f}×"


def _front_tables(
    report: SweepReport, score: ScoreName, front: FrontPart, *, verbose: bool
) -> Iterator[Table]:
    """The front, cheapest first; verbose: every other arm with the one that beats it."""
    rows = []
    for name in front.arms:
        arm = report.arm(name)
        rivals = [part for part in front.beaten if part.by == name]
        open_ = sum(not part.score.is_real for part in rivals)
        score_part = arm.scores[score.name]
        rows.append(
            (
                short(name, _PLACE),
                _cost(arm, front.cost),
                _interval(score_part),
                f"{len(rivals) - open_} · {open_}",
            )
        )
    headers = (f"front: {score.title}", COSTS[front.cost], "[95%]", "beats · ≈")
    yield Table(headers, tuple(rows), right=(1, 2, 3))
    if verbose and front.beaten:
        beaten = [
            (
                short(part.arm, _PLACE),
                _cost(report.arm(part.arm), front.cost),
                difference(part.score),
                short(part.by, _PLACE),
            )
            for part in front.beaten
        ]
        yield Table(
            ("not on the front", COSTS[front.cost], "behind it [95%]", "beaten by"),
            tuple(beaten),
            right=(1, 2),
        )


def _cost(arm: SweepArm, name: str) -> str:
    ratio = arm.costs[name].ratio
    return "1×" if ratio is None else f"{ratio:.2f}×"


def _interval(score: ScorePart) -> str:
    if score.low is None or score.high is None:
        return f"{score.value:.3f}"
    return f"{score.value:.3f} [{score.low:.2f}, {score.high:.2f}]"
