"""The page at the end of a batch: what was answered, how well, what it cost, and how fast it went.

Knows summaries and units; writes nowhere (output.py does).
"""

from __future__ import annotations

from reroute_cli.console import units
from reroute_cli.records.batch import BatchSummary, SharePart, SpreadPart
from reroute_cli.render.draw import DIM, STRONG, Page, plain, table
from reroute_cli.reporting.generation import not_neutral

Row = tuple[str, str, str]  # name, value, how it was made or what it is of
_SLOW = 0.1  # share of a run's time that the model stood still, from which it is worth a remark


def batch_page(summary: BatchSummary, *, verbose: bool = False) -> Page:
    """Headline, table, and what to know before quoting the numbers."""
    rows = [*_accuracy(summary), *_costs(summary), *_times(summary, verbose)]
    parts: Page = [plain(""), plain(_headline(summary), STRONG), plain("")]
    if rows:
        parts += [table(("", "", ""), rows, right=(1,)), plain("")]
    parts.append(plain(_who(summary), DIM))
    return [*parts, *(plain(note, "yellow") for note in _warnings(summary))]


def _headline(summary: BatchSummary) -> str:
    """'14 items · 12 answered, 4 of them before · 2 errors · 3 files skipped'."""
    counts = summary.counts
    before = f", {counts.resumed} of them before" if counts.resumed else ""
    parts = [_count(counts.items, "item"), f"{counts.answered} answered{before}"]
    if counts.errors:
        parts.append(_count(counts.errors, "error"))
    if counts.skipped:
        parts.append(f"{_count(counts.skipped, 'file')} skipped")
    return " · ".join(parts)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _accuracy(summary: BatchSummary) -> list[Row]:
    found, rows = summary.accuracy, []
    if found is not None and found.words is not None:
        rows.append(("answers right", f"{found.words.value:.3f}", _interval(found.words)))
    if found is not None and found.boxes is not None:
        boxes = found.boxes
        rows += [
            ("box Acc@0.5", f"{boxes.acc_at_05.value:.3f}", _interval(boxes.acc_at_05)),
            ("box centre inside", f"{boxes.centre_in_box.value:.3f}", _interval(boxes.centre_in_box)),
            ("box mean IoU", f"{boxes.mean_iou:.3f}", f"of {boxes.acc_at_05.n}"),
        ]
    return rows


def _interval(share: SharePart) -> str:
    return f"of {share.n} · 95% {share.low:.3f}–{share.high:.3f}"


def _costs(summary: BatchSummary) -> list[Row]:
    means = summary.means
    if means is None:
        return []
    of_prefill = f"prefill {units.ratio(means.prefill_flops, means.dense_prefill_flops)} of dense"
    of_kv = f"{units.ratio(means.kv_bytes, means.dense_kv_bytes)} of dense · {means.kv_source}"
    visual = f"of {units.tokens(means.visual_tokens)}"
    known = means.flops is not None
    return [
        ("visual tokens/layer", units.tokens(means.average_visual), visual),
        ("new tokens", units.tokens(means.new_tokens), ""),
        (
            "FLOPs",
            units.flops(means.flops),
            f"{of_prefill} · {means.flops_source}" if known else means.reasons["flops"],
        ),
        ("KV cache", units.size(means.kv_bytes), of_kv),
    ]


def _times(summary: BatchSummary, verbose: bool) -> list[Row]:
    latency, rate, run = summary.latency, summary.throughput, summary.this_run
    if latency is None or rate is None:
        return []
    rows = [
        _spread("TTFT", latency.ttft_s),
        *([_spread("TPOT", latency.tpot_s)] if latency.tpot_s is not None and verbose else []),
        _spread("end to end", latency.e2e_s),
        *([_spread("preprocess", latency.preprocess_s)] if verbose else []),
        ("throughput", f"{rate.samples_per_s:.2f} items/s", f"{rate.output_tokens_per_s:.1f} new tokens/s"),
    ]
    if run.answered:
        waited = f"waited {units.seconds(run.waiting_s)} for pictures"
        told = [
            _count(run.answered, "answer"),
            *([f"{run.workers} workers"] if run.workers > 1 else []),
            waited,
        ]
        rows.append(("this run", units.seconds(run.wall_s), " · ".join(told)))
    return rows


def _spread(name: str, spread: SpreadPart) -> Row:
    return name, units.seconds(spread.p50), f"p90 {units.seconds(spread.p90)} · of the pass"


def _who(summary: BatchSummary) -> str:
    model, choice = summary.model, summary.choice
    name = choice.profile or " ".join(filter(None, (choice.method, choice.action)))
    run = "dense" if choice.method == "none" else name
    how = f"{model.device} {model.dtype} {model.attention}"
    return f"{model.id} · {model.family} · {how} · {run} · batch {choice.batch_size}"


def _warnings(summary: BatchSummary) -> list[str]:
    """What would mislead if it were not said."""
    counts, run, found = summary.counts, summary.this_run, []
    if summary.model.weights == "random":
        found.append("random weights: the costs are real, the answers mean nothing")
    found += not_neutral(summary.generation)
    if counts.halved:
        found.append(f"{_count(counts.halved, 'answer')} came from a batch cut in two for want of memory")
    if run.answered and run.waiting_s > _SLOW * run.wall_s:
        share = run.waiting_s / run.wall_s
        found.append(f"the model waited {share:.0%} of this run's time for pictures to be read")
    if counts.errors:
        found.append(f"{summary.first_error}; what failed is tried again by the same command")
    return found
