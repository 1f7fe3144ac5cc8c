"""The sentences of a sweep's page: what came out of it, what to beware of, how the numbers were made.

Knows reports; not how a page is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from reroute_cli.records.sweep import ScoreName, SweepReport
from reroute_cli.reporting.generation import not_neutral
from reroute_cli.reporting.score_words import count
from reroute_cli.reporting.words import short

COSTS = {
    "visual_tokens_per_layer": "visual tokens/layer",
    "prefill_flops": "prefill FLOPs",
    "kv": "KV cache",
    "kv_end": "KV cache",
    "ttft": "TTFT",
    "e2e": "end to end",
}
_REASON = 200  # characters of a refusal


def headline(report: SweepReport) -> str:
    """'reroute against prune at equal amounts: box Acc@0.5 better in 9 of 12, worse in 0 · ...'."""
    if not report.pairs:
        return f"{count(len(report.asked), 'arm')} over {count(report.counts.compared, 'question')}"
    found = [_verdict(report, score) for score in report.shown]
    return f"reroute against prune at equal amounts: {' · '.join(found)}"


def _verdict(report: SweepReport, score: ScoreName) -> str:
    parts = [pair.scores[score.name] for pair in report.pairs if score.name in pair.scores]
    better = sum(part.is_real and part.value > 0 for part in parts)
    worse = sum(part.is_real and part.value < 0 for part in parts)
    return f"{score.title} better in {better} of {len(parts)}, worse in {worse}"


def warnings(report: SweepReport) -> Iterator[str]:
    """What would mislead if it were not said."""
    yield from dict.fromkeys(_refusals(report))
    if report.scores and not report.fronts[0].arms:
        cost = report.fronts[0].cost
        why = short(report.arms[0].unknown.get(cost, "nothing was measured"), _REASON)
        yield f"no front without {COSTS[cost]}: {why}; try --against visual-tokens"
    if left := report.counts.items - report.counts.compared:
        why = short(report.first_error or "", _REASON)
        yield f"{count(left, 'question')} without an answer of every arm are in no score: {why}"
    if report.model.weights == "random":
        yield "random weights: the costs are real, the answers mean nothing"
    yield from not_neutral(report.generation)


def _refusals(report: SweepReport) -> Iterator[str]:
    """One sentence for each arm with layers out of reach, by the reason of its least reduction."""
    refused = [arm for arm in report.arms if arm.refused is not None]
    for _, group in groupby(refused, key=lambda arm: (arm.place, arm.action)):
        arms = list(group)
        amounts = ", ".join(f"{arm.ratio if arm.ratio is not None else arm.budget:g}" for arm in arms)
        yield f"not asked at {amounts}: {short(arms[0].refused or '', _REASON)}"


def notes(report: SweepReport) -> Iterator[str]:
    """How the numbers were made."""
    counts = report.counts
    yield (
        f"{count(counts.compared, 'question')} about {count(counts.pictures, 'picture')}, "
        "each under every arm; beside a score its difference to dense, ≈ where its interval holds 0"
    )
    yield (
        "intervals: paired bootstrap over pictures, 95%, of scores Wilson's; p: McNemar's exact test; none "
        "is corrected for the number of comparisons"
    )
    yield (
        "• on the Pareto front: nobody scores higher at no more cost, or as high for less; "
        "~ beaten by an arm of it, but not clearly: the interval of the difference holds 0"
    )
    yield _costs(report)
    yield _who(report)


def _costs(report: SweepReport) -> str:
    made = report.costs
    if not made.items:
        return "costs are estimated from the answers, relative to dense; times were not measured"
    rounds = f"{count(len(made.items), 'item')} × {count(made.rounds, 'round')}"
    warm = count(made.warmup, "warm-up round")
    return (
        f"costs relative to dense, measured on {rounds} after {warm}, arms interleaved, "
        f"{count(made.new_tokens, 'new token')} forced; times are ratios of p50"
    )


def _who(report: SweepReport) -> str:
    model, cpu = report.model, report.environment.get("cpu") or {}
    machine = f"{cpu.get('model')}, {count(int(cpu.get('torch_threads') or 0), 'thread')}"
    if (model.device or "").startswith("cuda"):
        machine = ", ".join(str(gpu.get("name")) for gpu in report.environment.get("gpus") or [])
    how = f"{model.device} {model.dtype} {model.attention}"
    return (
        f"{short(model.id, 60)} · {model.family} · {how} · {short(machine, 60)} · batch {report.batch_size}"
    )
