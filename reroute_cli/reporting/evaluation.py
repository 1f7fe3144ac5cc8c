"""An evaluation as a page: headline, tables, what would mislead if it were not said, how numbers were made.

Knows neither terminals nor Markdown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from reroute_cli.records.evaluation import Evaluation, EvaluationArm
from reroute_cli.records.score import DifferencePart
from reroute_cli.reporting.blocks import Block, Say, Tone
from reroute_cli.reporting.evaluation_tables import (
    cost_table,
    group_differences,
    group_tables,
    headline_tables,
    mcnemar_table,
    other_tables,
    shown_groups,
    title,
)
from reroute_cli.reporting.generation import not_neutral
from reroute_cli.reporting.score_words import amount_of, count, difference, plain_number, score
from reroute_cli.reporting.words import short

_LONG = 200  # characters of a sentence from outside


def evaluation_page(report: Evaluation, *, verbose: bool = False) -> list[Block]:
    """Everything to show, the most important first."""
    blocks: list[Block] = [Say(headline(report), Tone.HEADLINE)]
    blocks += headline_tables(report)
    blocks += other_tables(report)
    blocks += group_differences(report) if verbose else group_tables(report)
    tests = mcnemar_table(report) if verbose else None
    blocks += [] if tests is None else [tests]
    blocks.append(cost_table(report))
    blocks += [Say(text, Tone.WARNING) for text in warnings(report)]
    return blocks + [Say(text) for text in notes(report)]


def headline(report: Evaluation) -> str:
    """What came out, in one sentence."""
    routed = report.arms[1:]
    if not report.headlines:
        return "nothing can be compared: there is no question that every schedule answered"
    if not routed:
        scores = report.dense.overall.scores
        said = (f"{scores[name].title} {score(scores[name])}" for name in report.headlines)
        return f"dense: {', '.join(said)}"
    amount = amount_of(routed[0].choice)
    if len(routed) == 1:
        kept = "; ".join(_kept(report, routed[0], name) for name in report.headlines)
        return f"{title(routed[0])}{amount}: {kept}"
    best = "; ".join(_best(report, name) for name in report.headlines)
    return f"{len(routed)} schedules{amount}, at best: {best}"


def _best(report: Evaluation, name: str) -> str:
    """The highest of a score, and who has it; of equals the one that is better in the other headlines."""
    ranks = [name, *report.headlines]
    arm = max(report.arms[1:], key=lambda arm: [_value(arm, rank) for rank in ranks])
    return f"{_kept(report, arm, name)} ({title(arm)})"


def _kept(report: Evaluation, arm: EvaluationArm, name: str) -> str:
    """'box Acc@0.5 0.71 of dense's 0.95, −0.24 [−0.28, −0.20]'."""
    dense, changed = report.dense.overall.scores[name], arm.overall.to_dense.get(name)
    mine = _value(arm, name)
    if changed is None:
        return f"no {dense.title}"
    return f"{dense.title} {plain_number(mine)} of dense's {plain_number(dense.value)}, {difference(changed)}"


def _value(arm: EvaluationArm, name: str) -> float:
    """A score; lower than any where the arm has none, which a quotient of nothing is."""
    found = arm.overall.scores.get(name)
    return -math.inf if found is None else found.value


def warnings(report: Evaluation) -> Iterator[str]:
    """What would mislead if it were not said."""
    if report.model.weights == "random":
        yield "random weights: the costs are real, the answers mean nothing"
    yield from not_neutral(report.generation)
    for name in report.headlines:
        yield from _indistinct(report, name)
    counts = report.counts
    if counts.errors:
        left_out = f"{count(counts.left_out, 'question')} left out of every score"
        yield f"{count(counts.errors, 'answer')} failed, {left_out}: {short(report.first_error or '', _LONG)}"
    if cut := sum(arm.made.ended_by_limit for arm in report.arms):
        yield f"{count(cut, 'answer')} cut at --max-new-tokens {report.workload.max_new_tokens}"


def _indistinct(report: Evaluation, name: str) -> Iterator[str]:
    """Differences whose interval holds 0: as far as these questions tell, there may be none."""
    small = [found for arm in report.arms[1:] for found in _small(arm, name)]
    if small:
        part = report.dense.overall.scores[name]
        yield f"{part.title}: not distinguishable from 0 on {count(part.n, 'question')}: {'; '.join(small)}"


def _small(arm: EvaluationArm, name: str) -> Iterator[str]:
    """The arm's differences that are not shown to be real, as words."""
    for parts, other in ((arm.overall.to_dense, "dense"), (arm.overall.to_prune, "prune")):
        if name in parts and not parts[name].is_real:
            yield f"{title(arm)} minus {other} {_seen(parts[name])}"


def _seen(part: DifferencePart) -> str:
    """'−0.01 [−0.04, 0.02]', or why there is no interval."""
    if part.low is not None:
        return difference(part)
    if part.only_this == part.only_base == 0:
        return "(each question alike)"
    return f"{difference(part)} (no interval: {part.reasons['low']})"


def notes(report: Evaluation) -> Iterator[str]:
    """How the numbers were made, of what, and by whom."""
    yield _asked(report)
    yield (
        "in brackets 95% intervals: Wilson's for shares, wider where a picture's questions go together; "
        "a bootstrap over pictures for the rest, paired for differences"
    )
    if any(arm.overall.to_dense for arm in report.arms):
        yield "every schedule was asked the same questions; McNemar's exact test of each share: -v, --json"
    if report.dense.groups:
        titles = (report.dense.overall.scores[name].title for name in report.headlines)
        left = len(report.dense.groups) - len(shown_groups(report))
        more = f"; -v shows {left} more" if left else ""
        yield f"by kind: {' or '.join(titles)}, whichever the kind asks for{more}"
    yield from _made(report)
    yield _who(report)


def _asked(report: Evaluation) -> str:
    found = report.workload.questions
    of_all = "" if found.available in (None, found.asked) else f" of {found.available}, spread evenly"
    split = f", split {found.split}" if found.split else ""
    pictures = len({item.image for item in report.items})
    asked = f"{count(found.asked, 'question')}{of_all}, on {count(pictures, 'picture')}"
    return f"{short(found.title, 60)}{split}: {asked}"


def _made(report: Evaluation) -> Iterator[str]:
    cost = next((arm.cost for arm in report.arms if arm.cost is not None), None)
    if cost is not None:
        yield (
            f"prefill FLOPs ({cost.flops_source}) and KV bytes ({cost.kv_source}) as parts of what the same "
            "answer takes dense; for times see reroute profile"
        )


def _who(report: Evaluation) -> str:
    workload, model = report.workload, report.model
    how = f"{model.device} {model.dtype} {model.attention}"
    settings = f"batch {workload.batch_size}, at most {count(workload.max_new_tokens, 'new token')}"
    return f"{short(model.id, 60)} · {short(model.family, 30)} · {how} · {settings}"
