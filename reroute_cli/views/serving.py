"""What a measured run says in the words of serving: latencies by percentile, outliers, objectives, goodput.

Knows the record and the words of tables; not the rest of the document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from reroute_cli.console import units
from reroute_cli.records.metrics import LATENCIES, METRICS
from reroute_cli.records.report import ArmPart, Report
from reroute_cli.views import wording as w
from reroute_cli.views.document import BLANK, Cell, Column, Table


def latencies(report: Report, named: Callable[[ArmPart], Cell], *, on: tuple[str, ...]) -> Table:
    """Percentiles of TTFT, ITL, TPOT and e2e under every arm, with how many values stand behind them.

    named: an arm as tables name it. on: the writers that the table is for.
    """
    columns = (
        Column("latency", "latency"),
        Column("schedule", "schedule"),
        *(Column(one, one, right=True) for one in ("p50", "p90", "p99")),
        Column("n", "n", right=True, help="values: a pass in a round, or a gap between two tokens"),
        Column("ratio", "p99 × dense [95%]"),
    )
    rows = []
    for key in LATENCIES:
        for arm in (arm for arm in report.arms if key in arm.metrics):
            found = arm.metrics[key]
            row = {one: w.number(key, getattr(found, one)) for one in ("p50", "p90", "p99")}
            ratio = w.quotient(arm.percentile_ratios.get(key, {}).get("p99"))
            row |= {"latency": Cell(METRICS[key].label), "schedule": named(arm), "n": w.counted(found.n)}
            rows.append(row | {"ratio": ratio if arm is not report.dense else BLANK})
    caption = "Latencies: p90 is known from 10 values on, p99 from 100"
    return Table(caption, columns, tuple(rows), grouped=True, on=on)


def how_timed(report: Report, named: Callable[[ArmPart], Cell]) -> Iterator[str]:
    """Sentences on how often and how many together, on what is far off, and on what goodput counts.

    named: an arm as tables name it.
    """
    work, protocol = report.workload, report.protocol
    together = f" in {len(work.passes)} passes" if work.passes else ""
    values = w.count(len(work.passes or work.items) * protocol.rounds, "value")
    steady = " until they agreed" if protocol.warmup_auto is not None and protocol.warmup_auto.agreed else ""
    yield (
        f"{w.count(len(work.items), 'item')}{together} × {w.count(protocol.rounds, 'round')}: {values} of a "
        f"time, after {w.count(protocol.warmup, 'warm-up round')}{steady}; "
        f"{w.count(work.new_tokens, 'new token')} forced"
    )
    if work.batch_size > 1:
        yield (
            f"up to {work.batch_size} requests go together, and the times of each are those of its pass; "
            "FLOPs, KV bytes and answers are those of each alone"
        )
    timed = {key: [arm.metrics[key] for arm in report.arms if key in arm.metrics] for key in LATENCIES}
    counted = [
        f"{sum(one.outliers or 0 for one in series)} of {sum(one.n for one in series):,} {METRICS[key].label}"
        for key, series in timed.items()
        if any(one.outliers is not None for one in series)
    ]
    if counted:
        found = ", ".join(counted)
        yield f"outliers, none left out: {found} (more than 3.5 scaled MADs above their item's median)"
    if protocol.slo:
        most = ", ".join(
            f"{METRICS[key].label} {units.seconds(limit)}" for key, limit in protocol.slo.items()
        )
        total = len(work.items) * protocol.rounds
        met = ", ".join(f"{arm.requests_met} of {total} {named(arm).text}" for arm in report.arms)
        yield f"goodput counts requests of at most {most} (ITL: the mean of a request's gaps): {met}"
