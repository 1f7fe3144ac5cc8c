"""The tables of a sweep: scores and costs with prune beside reroute, and the Pareto fronts.

Knows reports and how numbers are written; not how a table is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from reroute_cli.console import units
from reroute_cli.records.score import DifferencePart
from reroute_cli.records.sweep import FrontPart, ScoreName, SweepArm, SweepReport
from reroute_cli.reporting.blocks import Table
from reroute_cli.reporting.score_words import difference, p_value, plain_number, signed_number
from reroute_cli.reporting.score_words import score as score_words
from reroute_cli.reporting.words import short
from reroute_cli.sweeping.lines import Line
from reroute_cli.sweeping.sentences import COSTS

ON_FRONT, NEAR_FRONT, NO_DIFFERENCE = "•", "~", "≈"
_PLACE = 30  # characters of a method with its layers
_COST_COLUMNS = ("prefill_flops", "kv", "ttft")
_Row = tuple[str, ...]


def score_table(report: SweepReport, lines: Sequence[Line], score: ScoreName, front: FrontPart) -> Table:
    """One score: a line for each method and amount, and how its two arms differ."""
    marks = _marks(front)
    found = {(pair.prune, pair.reroute): pair.scores.get(score.name) for pair in report.pairs}
    dense = report.arms[0]
    rows: list[_Row] = [("dense", _score_cell(dense, score.name, marks), "", "", "")]
    for place, group in groupby(lines, key=lambda line: line.place):
        rows.append((short(place, _PLACE), "", "", "", ""))
        for line in group:
            names = tuple(arm.name if arm else "" for arm in (line.prune, line.reroute))
            cells = [_score_cell(arm, score.name, marks) for arm in (line.prune, line.reroute)]
            part = found.get((names[0], names[1]))
            rows.append((line.amount, *cells, "" if part is None else difference(part), _p(part)))
    headers = (score.title, "prune", "reroute", "reroute − prune [95%]", "p" if score.share else "")
    return Table(headers, tuple(rows), right=(1, 2, 3, 4))


def _marks(front: FrontPart) -> dict[str, str]:
    """By name: on the front, or beaten by an arm of it but not clearly."""
    near = {part.arm: NEAR_FRONT for part in front.beaten if not part.score.is_real}
    return near | dict.fromkeys(front.arms, ON_FRONT)


def _score_cell(arm: SweepArm | None, score: str, marks: dict[str, str]) -> str:
    """'•0.51 −0.43': the score, and the difference to dense; ≈ before one that may be none."""
    if arm is None:
        return ""
    found, dense = arm.scores.get(score), arm.to_dense.get(score)
    if found is None:
        return units.UNKNOWN
    text = marks.get(arm.name, "") + plain_number(found.value)
    return text if dense is None else f"{text} {_unless_real(dense)}{signed_number(dense.value)}"


def _unless_real(part: DifferencePart) -> str:
    return "" if part.is_real else NO_DIFFERENCE


def _p(part: DifferencePart | None) -> str:
    return "" if part is None or part.mcnemar_p is None else p_value(part.mcnemar_p)


def cost_table(lines: Sequence[Line]) -> Table:
    """What the arms of each line cost: 'prune · reroute' in each cell, over the dense arm's cost."""
    arms = [arm for line in lines for arm in (line.prune, line.reroute) if arm is not None]
    columns = [name for name in _COST_COLUMNS if any(_ratio(arm, name) != units.UNKNOWN for arm in arms)]
    rows: list[_Row] = []
    for place, group in groupby(lines, key=lambda line: line.place):
        rows.append((short(place, _PLACE), *[""] * (1 + len(columns))))
        for line in group:
            both = [arm for arm in (line.prune, line.reroute) if arm is not None]
            tokens = " · ".join(units.tokens(arm.average_visual) for arm in both)
            ratios = [" · ".join(_ratio(arm, name) for arm in both) for name in columns]
            rows.append((line.amount, tokens, *ratios))
    headers = ("prune · reroute", COSTS["visual_tokens"], *(COSTS[name] for name in columns))
    return Table(headers, tuple(rows), right=tuple(range(1, len(headers))))


def _ratio(arm: SweepArm, name: str) -> str:
    """An arm's cost over the dense one's: '0.32×'."""
    names = ("kv_prefill", "kv_end") if name == "kv" else (name,)
    found = next((arm.costs[one].ratio for one in names if one in arm.costs), None)
    return units.UNKNOWN if found is None else f"{found:.2f}×"


def front_table(report: SweepReport, score: ScoreName, front: FrontPart) -> Table:
    """The arms of the front, cheapest first, and how many each of them beats."""
    rows: list[_Row] = []
    for name in front.arms:
        arm = report.arm(name)
        behind = [part.score.is_real for part in front.beaten if part.by == name]
        counts = (str(sum(behind)), str(len(behind) - sum(behind)))
        rows.append(
            (short(name, _PLACE), _cost(arm, front.cost), score_words(arm.scores[score.name]), *counts)
        )
    headers = ("Pareto front", COSTS[front.cost], f"{score.title} [95%]", "beats", NEAR_FRONT)
    return Table(headers, tuple(rows), right=(1, 2, 3, 4))


def beaten_table(report: SweepReport, score: ScoreName, front: FrontPart) -> Table:
    """Every other arm, with the arm of the front that beats it."""
    rows: list[_Row] = [
        (
            short(part.arm, _PLACE),
            _cost(report.arm(part.arm), front.cost),
            _unless_real(part.score) + difference(part.score),
            short(part.by, _PLACE),
        )
        for part in front.beaten
    ]
    return Table(
        ("not on the front", COSTS[front.cost], f"{score.title} [95%]", "beaten by"),
        tuple(rows),
        right=(1, 2),
    )


def _cost(arm: SweepArm, name: str) -> str:
    """'0.32×', or tokens, whose number says more than their share."""
    part = arm.costs[name]
    if part.unit == "tokens":
        return units.tokens(part.value)
    return "1×" if part.ratio is None else f"{part.ratio:.2f}×"
