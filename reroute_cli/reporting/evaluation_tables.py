"""The tables of an evaluation: arms down the side, everywhere.

Knows which scores a person looks at first; not how a table is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reroute_cli.console import units
from reroute_cli.records.evaluation import Evaluation, EvaluationArm
from reroute_cli.records.score import ScorePart, ScoresPart
from reroute_cli.reporting.blocks import Table
from reroute_cli.reporting.score_words import arm_title, difference, p_value, plain_number, score
from reroute_cli.reporting.words import short

_NAME = 24  # characters of an arm's name
_TWIN = "reroute minus prune"
_BESIDE = 14  # characters of the longest name that leave room for three intervals in 80 columns
_A_TABLE = 3  # scores beside one another: three of '0.71 [0.67, 0.75]' fit in 80 columns
_GROUPS = 7  # kinds of question beside one another
_MOST_GROUPS = 2 * _GROUPS  # kinds of question that are shown without being asked for
_GROUP = 10  # characters of a kind's name


def title(arm: EvaluationArm) -> str:
    """The arm's name, as tables and sentences write it."""
    return arm_title(arm.name, arm.choice.action, _NAME)


def headline_tables(report: Evaluation) -> list[Table]:
    """For each score to look at first: the score, its difference to dense, and reroute minus prune."""
    return [part for name in report.headlines for part in _against(report, name)]


def _against(report: Evaluation, name: str) -> list[Table]:
    """One table; two where the arms have long names, which leave too little room for the last column."""
    dense, twins = report.dense.overall.scores[name], _twins(report, name)
    beside = bool(twins) and max(len(title(arm)) for arm in report.arms) <= _BESIDE
    headers = [f"n={dense.n}", dense.title, *(["minus dense"] if len(report.arms) > 1 else [])]
    rows = []
    for index, arm in enumerate(report.arms):
        part = arm.overall
        row = [title(arm), score(part.scores.get(name))]
        row += [difference(part.to_dense.get(name)) if index else ""] if len(report.arms) > 1 else []
        rows.append((*row, *([twins.get(arm.name, "")] if beside else [])))
    first = Table((*headers, *([_TWIN] if beside else [])), tuple(rows))
    if beside or not twins:
        return [first]
    named = tuple((title(arm), twins[arm.name]) for arm in report.arms if arm.name in twins)
    return [first, Table((dense.title, _TWIN), named)]


def _twins(report: Evaluation, name: str) -> dict[str, str]:
    """What rerouting arms have over their pruning twins, by the arm's name."""
    pairs = ((arm.name, arm.overall.to_prune.get(name)) for arm in report.arms)
    return {arm: difference(part) for arm, part in pairs if part is not None}


def other_tables(report: Evaluation) -> list[Table]:
    """The scores that are no headline, each with its interval."""
    known = report.dense.overall.scores
    names = [name for name in known if name not in report.headlines]
    chosen = [names[start : start + _A_TABLE] for start in range(0, len(names), _A_TABLE)]
    return [_beside(report, some) for some in chosen]


def _beside(report: Evaluation, names: Sequence[str]) -> Table:
    headers = ("", *(f"{report.dense.overall.scores[name].title}" for name in names))
    rows = ((title(arm), *(score(arm.overall.scores.get(name)) for name in names)) for arm in report.arms)
    return Table(headers, tuple(rows))


def shown_groups(report: Evaluation) -> list[str]:
    """The kinds of question in their order; of very many, those that most questions are of."""
    groups = list(report.dense.groups)
    counts = {
        group: max((part.n for part in report.dense.groups[group].scores.values()), default=0)
        for group in groups
    }
    most = sorted(groups, key=lambda group: -counts[group])[:_MOST_GROUPS]
    return [group for group in groups if group in most]


def group_tables(report: Evaluation) -> list[Table]:
    """The headline score of each kind of question; how many questions that is in the first row."""
    groups = shown_groups(report)
    tables = -(-len(groups) // _GROUPS)
    step = -(-len(groups) // max(tables, 1)) or 1
    return [_by_group(report, groups[start : start + step]) for start in range(0, len(groups), step)]


def _by_group(report: Evaluation, groups: Sequence[str]) -> Table:
    counts = (_leading(report, report.dense.groups[group]) for group in groups)
    rows = [("questions", *("" if part is None else str(part.n) for part in counts))]
    for arm in report.arms:
        found = (_leading(report, arm.groups[group]) for group in groups)
        rows.append((title(arm), *("–" if part is None else plain_number(part.value) for part in found)))
    headers = ("by kind", *(short(group or "(none)", _GROUP) for group in groups))
    return Table(headers, tuple(rows), right=tuple(range(1, len(headers))))


def _leading(report: Evaluation, part: ScoresPart) -> ScorePart | None:
    """The first headline score that is of these questions."""
    return next((part.scores[name] for name in report.headlines if name in part.scores), None)


def group_differences(report: Evaluation) -> list[Table]:
    """Every kind of question with intervals: long, for those who ask for everything."""
    rows = []
    for group in report.dense.groups:
        for index, arm in enumerate(report.arms):
            part = arm.groups[group]
            for name in report.headlines:
                if name in part.scores:
                    against = difference(part.to_dense.get(name)) if index else ""
                    rows.append(
                        (short(group or "(none)", _GROUP), title(arm), score(part.scores[name]), against)
                    )
    return [Table(("by kind", "arm", "[95%]", "minus dense"), tuple(rows))] if rows else []


def mcnemar_table(report: Evaluation) -> Table | None:
    """McNemar's test of every share: how many questions only one of two arms has right."""
    rows = tuple(_tests(report))
    headers = ("McNemar", "against", "score", "only this", "only other", "p")
    return Table(headers, rows, right=(3, 4, 5)) if rows else None


def _tests(report: Evaluation) -> Iterator[tuple[str, ...]]:
    names = {arm.name: title(arm) for arm in report.arms}
    for arm in report.arms:
        for parts in (arm.overall.to_dense, arm.overall.to_prune):
            for part in parts.values():
                if part.mcnemar_p is not None:
                    counts = (str(part.only_this), str(part.only_base), p_value(part.mcnemar_p))
                    yield title(arm), names[part.base], part.title, *counts


def cost_table(report: Evaluation) -> Table:
    """What answers took: dense in numbers, every other arm as a part of it."""
    rows = tuple(_costs(arm, dense=not index) for index, arm in enumerate(report.arms))
    return Table(("mean", "tokens/layer", "prefill", "KV cache", "new tokens"), rows, right=(1, 2, 3, 4))


def _costs(arm: EvaluationArm, *, dense: bool) -> tuple[str, ...]:
    cost = arm.cost
    if cost is None:
        return title(arm), *["–"] * 4
    if dense:
        prefill, kv = units.flops(cost.prefill_flops), units.size(cost.kv_bytes)
    else:
        prefill, kv = units.ratio(cost.prefill_ratio, 1.0), units.ratio(cost.kv_ratio, 1.0)
    return title(arm), units.tokens(cost.average_visual), prefill, kv, units.tokens(cost.new_tokens)
