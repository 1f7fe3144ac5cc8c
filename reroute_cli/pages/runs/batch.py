"""The summary of a batch, `reroute.batch/1`.

Knows the record; not how a page is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator

from reroute_cli.console import units
from reroute_cli.pages import cells
from reroute_cli.pages.pieces import Cell, Column, Part, Run, Table, Tile
from reroute_cli.records.batch import BatchSummary, SharePart, SpreadPart
from reroute_cli.reporting.generation import not_neutral
from reroute_cli.reporting.score_words import count
from reroute_cli.reporting.words import short


def part_of(report: BatchSummary, name: str) -> Part:
    """The section of a batch's summary."""
    counts = report.counts
    failed = f", {count(counts.errors, 'error')}" if counts.errors else ""
    warnings = [] if report.first_error is None else [f"first error: {short(report.first_error, cells.TEXT)}"]
    if report.model.weights == "random":
        warnings.append("random weights: the costs are real, the answers mean nothing")
    warnings += not_neutral(report.generation)
    run = Run(
        kind="batch",
        name=name,
        headline=f"{_schedule(report)}: {count(counts.items, 'item')}, {counts.answered} answered{failed}",
        tiles=tuple(_tiles(report)),
        warnings=tuple(warnings),
        tables=(_numbers(report),),
        notes=(_who(report),),
    )
    return Part(run)


def _schedule(report: BatchSummary) -> str:
    choice = report.choice
    if choice.method in (None, "none") and choice.profile is None:
        return "dense"
    amount = "" if choice.ratio is None else f" at {choice.ratio:g}"
    named = choice.profile or " ".join(filter(None, (choice.method, choice.action)))
    return short(named, cells.NAME) + amount


def _tiles(report: BatchSummary) -> Iterator[Tile]:
    found, means = report.accuracy, report.means
    if found is not None and found.words is not None:
        yield _share("answers right", found.words)
    if found is not None and found.boxes is not None:
        yield _share("box Acc@0.5", found.boxes.acc_at_05)
    if means is not None:
        ratio = units.ratio(means.kv_bytes, means.dense_kv_bytes)
        yield Tile("KV cache of dense", ratio, f"{units.size(means.kv_bytes)}, {means.kv_source}")
        prefill = units.ratio(means.prefill_flops, means.dense_prefill_flops)
        yield Tile("prefill FLOPs of dense", prefill, means.flops_source)


def _share(label: str, part: SharePart) -> Tile:
    return Tile(label, f"{part.value:.2f}", f"95% [{part.low:.2f}, {part.high:.2f}], n\u00a0=\u00a0{part.n}")


def _numbers(report: BatchSummary) -> Table:
    means, latency, rate = report.means, report.latency, report.throughput
    rows: list[tuple[Cell, ...]] = []
    if means is not None:
        rows += [
            (
                Cell("visual tokens/layer"),
                cells.tokens(means.average_visual),
                Cell(f"of {units.tokens(means.visual_tokens)}"),
            ),
            (Cell("prompt tokens"), cells.tokens(means.prompt_tokens), Cell("mean")),
            (Cell("new tokens"), cells.tokens(means.new_tokens), Cell("mean")),
            (
                Cell("FLOPs"),
                Cell(units.flops(means.flops), means.flops),
                Cell(f"mean of an answer, {means.flops_source}"),
            ),
            (
                Cell("KV cache"),
                Cell(units.size(means.kv_bytes), means.kv_bytes),
                Cell(f"mean at the end, {means.kv_source}"),
            ),
        ]
    if latency is not None:
        spreads = (
            ("TTFT", latency.ttft_s),
            ("TPOT", latency.tpot_s),
            ("end to end", latency.e2e_s),
            ("preprocess", latency.preprocess_s),
        )
        rows += [_spread(label, spread) for label, spread in spreads if spread is not None]
    if rate is not None:
        rows.append(
            (
                Cell("throughput"),
                Cell(f"{rate.samples_per_s:.2f} items/s"),
                Cell(f"{rate.output_tokens_per_s:.1f} new tokens/s"),
            )
        )
    columns = (Column("what"), Column("value", right=True), Column("how"))
    return cells.table("Over every answer", columns, rows)


def _spread(label: str, spread: SpreadPart) -> tuple[Cell, ...]:
    how = f"median, measured of the pass; p90 {units.seconds(spread.p90)}"
    return Cell(label), Cell(units.seconds(spread.p50), spread.p50), Cell(how)


def _who(report: BatchSummary) -> str:
    model = report.model
    how = f"{model.device} {model.dtype} {model.attention}"
    return f"{short(model.id, 60)} · {short(model.family, 30)} · {how} · batch {report.choice.batch_size}"
