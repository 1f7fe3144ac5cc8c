"""What many answers took: of a batch, `reroute.batch/1`, and of lmms-eval's tasks, `reroute.lmms_costs/1`.

Knows the records; no writer.
"""

from __future__ import annotations

from collections.abc import Iterator

from reroute_cli.console import units
from reroute_cli.records.batch import BatchSummary, LmmsCosts, TaskPart
from reroute_cli.views import wording as w
from reroute_cli.views.document import Block, Cell, Column, Document, Text, Tile, Tone
from routing.methods import METHODS

_Line = tuple[str, Cell, str]  # name, value, how it was made or what it is of
_SLOW = 0.1  # share of a run's time that the model stood still, from which it is worth a remark


def document(summary: BatchSummary, *, verbose: bool = False) -> Document:
    """What was answered, how well, what it cost, how fast it went, what to know before quoting it."""
    counts, choice, means, found = summary.counts, summary.choice, summary.means, summary.accuracy
    before = f", {counts.resumed} of them before" if counts.resumed else ""
    parts = [w.count(counts.items, "item"), f"{counts.answered} answered{before}"]
    parts += [w.count(counts.errors, "error")] if counts.errors else []
    parts += [f"{w.count(counts.skipped, 'file')} skipped"] if counts.skipped else []
    blocks: list[Block] = [Text(" · ".join(parts), Tone.HEADLINE)]
    boxes = None if found is None or found.boxes is None else found.boxes.acc_at_05
    words = None if found is None else found.words
    for label, part in (("answers right", words), ("box Acc@0.5", boxes)):
        if part is not None:
            note = f"95% [{part.low:.2f}, {part.high:.2f}], n\u00a0=\u00a0{part.n}"
            blocks.append(Tile(label, f"{part.value:.2f}", note))
    if means is not None:
        kv = units.ratio(means.kv_end_bytes, means.dense_kv_end_bytes)
        prefill = units.ratio(means.prefill_flops, means.dense_prefill_flops)
        size = f"{units.size(means.kv_end_bytes)}, {means.kv_source}"
        blocks += [Tile("KV cache of dense", kv, size)]
        blocks += [Tile("prefill FLOPs of dense", prefill, means.flops_source)]
    headers = (Column("what", ""), Column("value", "", right=True), Column("how", ""))
    rows = [*_costs(summary, verbose=verbose), *_times(summary, verbose=verbose)]
    if rows:
        cells = ((Cell(what), value, w.words(how)) for what, value, how in rows)
        blocks.append(w.table("Over every answer", headers, cells))
    dense = choice.method in (None, "none") and choice.profile is None
    named = choice.profile or " ".join(filter(None, (choice.method, choice.action)))
    schedule = "dense" if dense else w.short(named, w.NAME) + w.amount_of(choice)
    blocks.append(Text(w.who(summary.model, schedule, f"batch {choice.batch_size}")))
    return Document("batch", (*blocks, *w.texts(Tone.WARNING, _warnings(summary))))


def _costs(summary: BatchSummary, *, verbose: bool) -> Iterator[_Line]:
    """How many answers are right, and what they took on average."""
    found, means = summary.accuracy, summary.means
    shares = [] if found is None or found.words is None else [("answers right", found.words)]
    boxes = None if found is None else found.boxes
    if boxes is not None:
        shares += [("box Acc@0.5", boxes.acc_at_05), ("box centre inside", boxes.centre_in_box)]
    for what, share in shares:
        how = f"of {share.n} · 95% {share.low:.3f}–{share.high:.3f}"
        yield what, Cell(f"{share.value:.3f}", share.value), how
    if boxes is not None:
        yield "box mean IoU", Cell(f"{boxes.mean_iou:.3f}", boxes.mean_iou), f"of {boxes.acc_at_05.n}"
    if means is None:
        return
    whole = f"of {units.tokens(means.visual_tokens)}"
    yield "visual tokens/layer", w.tokens(means.visual_tokens_per_layer), whole
    if verbose:
        yield "prompt tokens", w.tokens(means.prompt_tokens), ""
    yield "new tokens", w.tokens(means.new_tokens), ""
    prefill = f"prefill {units.ratio(means.prefill_flops, means.dense_prefill_flops)} of dense"
    how = means.reasons["total_flops"] if means.total_flops is None else f"{prefill} · {means.flops_source}"
    yield "FLOPs", Cell(units.flops(means.total_flops), means.total_flops), how
    of_dense = f"{units.ratio(means.kv_end_bytes, means.dense_kv_end_bytes)} of dense · {means.kv_source}"
    yield "KV cache", Cell(units.size(means.kv_end_bytes), means.kv_end_bytes), of_dense


def _times(summary: BatchSummary, *, verbose: bool) -> Iterator[_Line]:
    latency, rate, run = summary.latency, summary.throughput, summary.this_run
    if latency is None or rate is None:
        return
    spreads = {"TTFT": latency.ttft_s, "TPOT": latency.tpot_s, "end to end": latency.e2e_s}
    spreads |= {"preprocess": latency.preprocess_s}
    once = " · vision measured once an image" if summary.counts.reused_vision else ""
    for what, spread in spreads.items():
        if spread is not None and (verbose or what not in ("TPOT", "preprocess")):
            shared = f" · of the pass{once}" if what == "TTFT" else ""
            yield what, w.seconds(spread.p50), f"p90 {units.seconds(spread.p90)}{shared}"
    per_second = Cell(f"{rate.samples_per_s:.2f} items/s", rate.samples_per_s)
    yield "throughput", per_second, f"{rate.output_tokens_per_s:.1f} new tokens/s"
    if run.answered:
        told = [w.count(run.answered, "answer"), *([f"{run.workers} workers"] if run.workers > 1 else [])]
        told.append(f"waited {units.seconds(run.waiting_s)} for images")
        yield "this run", w.seconds(run.wall_s), " · ".join(told)


def _warnings(summary: BatchSummary) -> Iterator[str]:
    """What would mislead if it were not said."""
    counts, run, means = summary.counts, summary.this_run, summary.means
    method = METHODS.get(summary.choice.method or "")
    as_many = means is not None and means.visual_tokens_per_layer == means.visual_tokens
    if method is not None and method.resizes and as_many:
        yield w.SAVES_NOTHING
    yield from w.beware(summary.model.weights, summary.generation)
    if counts.halved:
        yield f"{w.count(counts.halved, 'answer')} came from a batch cut in two for want of memory"
    if run.answered and run.waiting_s > _SLOW * run.wall_s:
        share = run.waiting_s / run.wall_s
        yield f"the model waited {share:.0%} of this run's time for images to be read"
    if counts.errors:
        yield f"{summary.first_error}; what failed is tried again by the same command"


def lmms_document(costs: LmmsCosts, *, verbose: bool = False) -> Document:  # noqa: ARG001  it says all it has
    """What the answers to every task of lmms-eval took, and what in them was not as asked."""
    rows = (
        (w.words(task, w.NAME), Cell(_answered(part)), w.words(_took(part)))
        for task, part in costs.tasks.items()
    )
    return Document(
        "lmms-eval",
        (
            Text(f"all tasks: {_spent(costs.total)}", Tone.HEADLINE),
            w.table("Every task", w.columns("task", "answered", "took"), rows),
            Text(_how(costs)),
            *w.texts(Tone.WARNING, lmms_warnings(costs)),
        ),
    )


def cost_lines(costs: LmmsCosts) -> list[str]:
    """One line a task, for a log: answers, visual tokens, KV cache, schedule."""
    how = _how(costs)
    return [f"{task}: {_spent(part)} · {how}" for task, part in costs.tasks.items()]


def lmms_warnings(costs: LmmsCosts) -> Iterator[str]:
    """What the checkpoint changes, and a sentence for each kind of trouble in each task, with its count."""
    yield from w.beware("loaded", costs.generation)
    for task, part in costs.tasks.items():
        if part.failed:
            yield (
                f"{task}: {part.failed} of {part.requests} requests have no answer, scored as an empty one; "
                f"the first: {part.first_error}"
            )
        if part.escaped:
            yield (
                f"{task}: {part.escaped} of {part.requests} questions hold control tokens of this model, "
                "which were written with a space behind the first character, so that they are text"
            )
        if part.shortened:
            yield (
                f"{task}: for {part.shortened} of {part.requests} requests the model's context has no room "
                "for an answer as long as the task allows: their answers end where it ends"
            )


def _answered(part: TaskPart) -> str:
    return f"{part.answered} of {part.requests} answered"


def _spent(part: TaskPart) -> str:
    return " · ".join(filter(None, (_answered(part), _took(part))))


def _took(part: TaskPart) -> str:
    means = part.means
    if means is None:
        return ""
    kv = f"KV cache {means.kv_end_ratio:.2f}× of dense (estimated)"
    if means.visual is None:
        return f"no images · {kv}"
    seen = means.visual
    return (
        f"visual tokens/layer {seen.visual_tokens_per_layer:.1f} of {seen.visual_tokens:.0f} (counted) · {kv}"
    )


def _how(costs: LmmsCosts) -> str:
    """The schedule that was asked for, and the model."""
    asked = costs.schedule
    said = "dense"
    if asked.profile is not None:
        said = f"profile {asked.profile}"
    elif asked.action is not None:
        amount = f"budget {asked.budget:g}" if asked.ratio is None else f"ratio {asked.ratio:g}"
        layers = asked.decision_layers
        at = "" if layers is None else f" at layers {', '.join(map(str, layers))}"
        said = f"{asked.method} {asked.action}{at}, {amount}"
    return f"{said} · {costs.model.id} · {costs.model.dtype} · {costs.model.attention}"
