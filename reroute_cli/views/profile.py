"""A measured run, `reroute.report/1`: costs and times of every schedule beside the dense model's.

Text has metrics down the side for one or two arms, arms down the side for more. Knows the record; no writer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, groupby

from reroute_cli.console import units
from reroute_cli.records.metrics import GOODPUT, LATENCIES, MAIN_TIMES, METRICS, OF_ARMS, Kind
from reroute_cli.records.report import PERCENTILES, ArmItem, ArmPart, Measured, Ratio, Report
from reroute_cli.views import serving
from reroute_cli.views import wording as w
from reroute_cli.views.document import (
    BLANK,
    DATA,
    NOT_KNOWN,
    PAGE,
    TEXT,
    ArmAnswer,
    Block,
    Cell,
    Chart,
    Column,
    Document,
    Gallery,
    GalleryItem,
    Table,
    Text,
    Tile,
    Tone,
)
from reroute_cli.views.write import charts

STATISTICS = ("n", "mean", "std", "min", "p50", "p90", "p95", "p99", "max", "outliers")
PROCESS = "(process)"
_COSTS = ("visual_tokens_per_layer", "prefill_flops", "kv_prefill", "kv_end")
_HEADLINE = {"prefill {} FLOPs": "prefill_flops", "TTFT {}": "ttft", "KV {}": "kv_prefill"}
_COLUMN = 17  # characters of the widest cell: '84.4 ms · 91.6 ms'
_NAMED = 3  # arms that a warning names
_ITEM, _ANSWER = 18, 32  # characters of an item's id, of an answer
_DIFFERENT = 8  # answers that differ, unless all are asked for


def document(report: Report, *, verbose: bool = False) -> Document:
    """The headline, the numbers, the answers that differ, and what to know before quoting any of it."""
    dense, few = report.dense, len(report.arms) <= 2  # arms that fit beside one another
    blocks: list[Block] = [Text(headline(report), Tone.HEADLINE), *_tiles(report)]
    every = verbose or report.workload.batch_size > 1 or bool(report.protocol.slo)
    blocks += [_by_metric(report, verbose=every)] if few else []
    blocks.append(_arms(report, on=(PAGE,) if few else (TEXT, PAGE), verbose=every))
    blocks.append(serving.latencies(report, _arm, on=(TEXT, PAGE) if few or every else (PAGE,)))
    if verbose:  # numbers that no arm has for itself
        measured = report.process.metrics.items()
        labels = (Column("metric", "whole process"), Column("value", "", right=True))
        process = ((Cell(METRICS[key].label), w.number(key, series.max)) for key, series in measured)
        blocks.append(w.table("Of the whole process", labels, process, on=(TEXT,)))
    blocks += _charts(report)
    runs = (Column("schedule", ""), Column("layers", "visual tokens by layer"))
    layers = ((_arm(arm), _layer_runs(arm)) for arm in report.arms)
    blocks.append(w.table("Visual tokens by layer", runs, layers, on=(TEXT,)))
    if verbose:
        asked = (
            (w.name(item.id, most=_ITEM), w.words(item.question, _ANSWER), _answer(answered))
            for item, answered in zip(report.workload.items, dense.items, strict=True)
        )
        headers = w.columns("item", "question", "dense answered")
        blocks.append(w.table("Every question", headers, asked, on=(TEXT,)))
    different = [
        (w.name(item.id, most=_ITEM), _arm(arm), _answer(arm.items[index]), _answer(item))
        for index, item in enumerate(dense.items)
        for arm in report.arms[1:]
        if not arm.items[index].agrees
    ]
    if different:
        headers = w.columns("item", "arm", "answered", "dense answered")
        more = "and {} more answers that differ: -v shows them all"
        most = None if verbose else _DIFFERENT
        blocks.append(w.table("Answers that differ", headers, different, most=most, more=more, on=(TEXT,)))
    blocks.append(_metrics(report))
    blocks += w.texts(Tone.WARNING, warnings(report, verbose=verbose))
    blocks += w.texts(Tone.NOTE, chain(serving.how_timed(report, _arm), _notes(report)))
    said = (
        [ArmAnswer(title(arm), _arm(arm).role, item.answer, pair=arm.method or "") for item in arm.items]
        for arm in report.arms
    )
    items = (
        GalleryItem(asked.id, next(iter(asked.images), ""), asked.question, answers)
        for asked, answers in zip(report.workload.items, zip(*said, strict=True), strict=True)
    )
    return Document("profile", (*blocks, Gallery(tuple(items))))


def title(arm: ArmPart) -> str:
    """'nuwa prune', 'fastv@3+5 reroute', a profile's name, or 'dense'."""
    return w.arm_title(arm.name, arm.action if arm.method is not None else None)


def _arm(arm: ArmPart) -> Cell:
    return w.name(title(arm), w.role_of(arm.name, arm.action))


def equal_answers(arm: ArmPart) -> str:
    """'13/14': answers that are those of the dense arm."""
    return f"{sum(item.agrees for item in arm.items)}/{len(arm.items)}"


def headline(report: Report) -> str:
    """What came out, in one sentence; of several arms who is first, and whose answers are dense's."""
    dense, *others = report.arms
    if not others:
        said = (
            text.replace(" FLOPs", "").format(w.typical(dense, key))
            for text, key in _HEADLINE.items()
            if key in dense.metrics
        )
        return f"dense: {', '.join(said)}"
    if len(others) == 1:
        arm = others[0]
        said = (
            text.format(w.quotient(arm.ratios[key]).line)
            for text, key in _HEADLINE.items()
            if key in arm.ratios
        )
        return f"{title(arm)}{w.amount_of(arm)}: {', '.join(said)}, answers {equal_answers(arm)} equal"
    found = []
    if timed := [arm for arm in others if "ttft" in arm.ratios]:
        soonest = min(timed, key=lambda arm: arm.ratios["ttft"].value)
        found.append(
            f"first token soonest with {title(soonest)}, TTFT {w.quotient(soonest.ratios['ttft']).line}"
        )
    closest = max(others, key=lambda arm: sum(item.agrees for item in arm.items))
    agreed = any(item.agrees for item in closest.items)
    found.append(
        f"most answers equal with {title(closest)}, {equal_answers(closest)}"
        if agreed
        else "no answer equal to dense"
    )
    return f"{len(others)} schedules{w.amount_of(others[0])}: {'; '.join(found)}"


def warnings(report: Report, *, verbose: bool) -> Iterator[str]:
    """What would mislead if it were not said."""
    yield from w.beware(report.model.weights, report.generation)
    resized = [(title(arm), [item.resized for item in arm.items]) for arm in report.arms]
    yield from w.unsaving([arm for arm, found in resized if all(one and not one.saves for one in found)])
    sizes = {len(places) for places in report.workload.passes}
    if sizes and sizes != {report.workload.batch_size}:
        told = ", ".join(str(len(places)) for places in report.workload.passes)
        yield f"not every pass holds {report.workload.batch_size} requests, but {w.short(told, 60)}"
    if (auto := report.protocol.warmup_auto) is not None and not auto.agreed:
        yield (
            f"the warm-up ended after {w.count(len(auto.seconds), 'round')}, whose last {auto.last} are not "
            f"within {auto.within:.0%} of one another: times are not steady"
        )
    slower, behind = [], []
    for arm in report.arms[1:]:
        slower += [
            f"{title(arm)}, {METRICS[key].label} {w.quotient(arm.ratios[key]).line}"
            for key in MAIN_TIMES
            if key in arm.ratios and _above(arm.ratios[key], 1.0)
        ]
        time, flops = arm.ratios.get("prefill"), arm.ratios.get("prefill_flops")
        if time is not None and flops is not None and _above(time, flops.value):
            spent, counted = w.quotient(time).line, w.quotient(flops).line
            behind.append(f"{spent} of the time for {counted} of the FLOPs ({title(arm)})")
    for said, found in (
        ("slower than dense: ", slower),
        ("FLOPs saved are not time saved: prefill took ", behind),
    ):
        most = len(found) if verbose else _NAMED
        more = f"; and {len(found) - most} more" if len(found) > most else ""
        if found:
            yield said + "; ".join(found[:most]) + more


def _above(ratio: Ratio, limit: float) -> bool:
    """Whether all of the interval is; too few values for one show nothing."""
    return ratio.low is not None and ratio.low > limit


def _notes(report: Report) -> Iterator[str]:
    """How the numbers were made, and who made them."""
    many, new = len(report.arms) > 1, report.workload.new_tokens
    yield (
        f"measured in this run{', arms interleaved' if many else ''}: times are p50 · p90, "
        f"{'ratios are of p50 with a bootstrap 95% interval' if many else ''}"
    ).removesuffix(", ") + "; FLOPs, bytes and tokens are means over items"
    yield "2 FLOPs per multiply-add, the full attention rectangle; prefill FLOPs include scoring"
    measured = [
        one for arm in report.arms for one in arm.ratios.items() if METRICS[one[0]].kind is not Kind.EXACT
    ]
    lacking = {METRICS[key].label: ratio.reasons["low"] for key, ratio in measured if ratio.low is None}
    if lacking:
        some = any(ratio.low is not None for _, ratio in measured)
        whose = f" of {', '.join(lacking)}" if some else ""
        yield f"no intervals{whose}: {next(iter(lacking.values()))}"
    if cut := sum(item.finish == "length" for arm in report.arms for item in arm.items):
        yield f"{w.count(cut, 'answer')} cut at --max-new-tokens {new}"
    reasons: dict[str, dict[str, None]] = {}
    for part in (*report.arms, report.process):
        for key, reason in part.unknown.items():
            if key == GOODPUT and not report.protocol.slo:  # nobody asked for it
                continue
            reasons.setdefault(reason, {})[METRICS[key].label] = None
    for reason, labels in reasons.items():
        yield f"unknown: {', '.join(labels)} ({w.short(reason, 200)})"
    model = report.model
    yield " · ".join(
        (
            f"{w.short(model.id, 60)} · {w.short(model.family, 30)}, {w.count(model.layers or 0, 'layer')}",
            f"{model.device} {model.dtype} {model.attention}",
            w.machine(model, report.environment),
        )
    )


def _tiles(report: Report) -> Iterator[Tile]:
    """The one routed arm's ratios; of several, the arm whose first token comes soonest."""
    routed = [arm for arm in report.arms[1:] if "ttft" in arm.ratios]
    if not routed:
        for key in ("ttft", "e2e"):
            if found := report.dense.metrics.get(key):
                label = f"{METRICS[key].label}, dense"
                yield Tile(label, w.typical(report.dense, key), f"{found.source}, n = {found.n}", "dense")
        return
    arm = min(routed, key=lambda arm: arm.ratios["ttft"].value)
    whose, role = f"{title(arm)}, " if len(routed) > 1 else "", _arm(arm).role
    for key in ("prefill_flops", "kv_prefill", "ttft", "e2e"):
        if key in arm.ratios:
            cell = w.quotient(arm.ratios[key])
            how = f"95% {cell.note}" if cell.note else arm.metrics[key].source if key in arm.metrics else ""
            yield Tile(f"{METRICS[key].label} of dense", cell.text, whose + how, role)
    yield Tile("answers equal to dense", equal_answers(arm), f"{title(arm)}{w.amount_of(arm)}", role)


def value(arm: ArmPart, key: str) -> Cell:
    """A metric of one arm: the median of times with the 90th percentile, the mean over items of all else."""
    found = arm.metrics.get(key)
    if found is None:
        return NOT_KNOWN
    if key == "agreement":
        return Cell(equal_answers(arm), sum(item.agrees for item in arm.items))
    cell = w.number(key, w.middle(key, found))
    mark = w.ESTIMATED if found.source == "estimated" else ""
    timed = METRICS[key].unit == "s" and found.p90 is not None
    p90 = w.number(key, found.p90).text if timed else ""
    return Cell(mark + cell.text, cell.value, p90, " · ")


def _metric_names(report: Report, *, every: bool) -> list[str]:
    """The metrics of arms in the order of tables, without those that say nothing in any arm."""
    found = (key for key, metric in OF_ARMS.items() if every or metric.brief)
    return [
        key
        for key in found
        if any(key in arm.metrics and (arm.metrics[key].max or key == GOODPUT) for arm in report.arms)
    ]


def _by_metric(report: Report, *, verbose: bool) -> Table:
    """A row for each metric: dense, the other arm, their ratio."""
    headers = [Column("metric", ""), Column("dense", "dense", right=True)]
    for arm in report.arms[1:]:  # the headline has told a name that would push the numbers aside
        routed = title(arm) if len(title(arm)) <= _COLUMN else "routed"
        headers += [Column("routed", routed, right=True), Column("ratio", "ratio [95%]")]
    rows = []
    for key in _metric_names(report, every=verbose):
        found = {"metric": Cell(METRICS[key].row), "dense": value(report.dense, key)}
        for arm in report.arms[1:]:
            found |= {"routed": value(arm, key), "ratio": w.quotient(arm.ratios.get(key))}
        rows.append(found)
    return Table("Every metric", tuple(headers), tuple(rows), on=(TEXT,))


def _arms(report: Report, *, on: tuple[str, ...], verbose: bool) -> Table:
    """A row for each arm. Text has costs as parts of dense's, and ratios of times before times."""
    known = [key for key in (*_COSTS, *MAIN_TIMES) if any(key in arm.metrics for arm in report.arms)]
    part, ratio = "mean over items", "ratio to dense"
    headers = [Column("schedule", "schedule")]
    headers.append(
        Column("agreement", "equal", right=True, part=part, help="answers equal to the dense arm's")
    )
    for key in known:
        label, means, timed = METRICS[key].short, METRICS[key].means, key in MAIN_TIMES
        spread = (PAGE,) if timed or key != "visual_tokens_per_layer" else (TEXT, PAGE)
        headers.append(Column(key, label, right=True, help=means, part=part, on=spread))
        if key != "visual_tokens_per_layer":
            side = ratio if timed else part
            help_ = f"{METRICS[key].label} over dense's"
            headers.append(Column(f"{key}_of", label, right=not timed, part=side, on=(TEXT,)))
            headers.append(Column(f"{key}_ratio", "× dense", right=True, help=help_, on=(PAGE,)))
    headers += [
        Column(f"{key}_value", METRICS[key].label, right=True, part="p50 · p90", on=(TEXT,))
        for key in MAIN_TIMES
        if key in known
    ]
    others = [
        key
        for key in _metric_names(report, every=True)
        if key not in {"agreement", "visual_tokens_per_layer", *MAIN_TIMES}
    ]
    for at, key in enumerate(others if verbose else ()):
        more = " " * (1 + at // 3)  # three metrics beside one another fit; the parts have no name
        label = METRICS[key].short
        headers.append(Column(f"{key}_more", label, right=True, part=more, on=(TEXT,)))
        headers.append(Column(f"{key}_times", "", right=True, part=more, on=(TEXT,)))
    rows = []
    for index, arm in enumerate(report.arms):
        found = {"schedule": _arm(arm), "agreement": value(arm, "agreement")}
        for key in METRICS:
            of_dense = w.quotient(arm.ratios.get(key))
            typed = Cell(w.typical(arm, key))
            times_ = w.times(arm.ratios[key].value) if key in arm.ratios else BLANK
            found |= {key: value(arm, key), f"{key}_ratio": of_dense, f"{key}_value": value(arm, key)}
            found |= {f"{key}_of": of_dense if index else typed, f"{key}_more": typed, f"{key}_times": times_}
        rows.append(found)
    caption = "Every schedule: times are medians, below them the 90th percentile, all else means over items"
    return Table(caption, tuple(headers), tuple(rows), on=on)


def _charts(report: Report) -> Iterator[Chart]:
    """How every time is spread over items and rounds; tokens and bytes of each layer, means over items."""
    for key in LATENCIES:
        timed = [arm for arm in report.arms if key in arm.metrics]
        spread = [
            charts.ArmLine(title(arm), _arm(arm).role, tuple(chain(*arm.metrics[key].values)))
            for arm in timed
        ]
        if spread:
            found = report.dense.metrics.get(key)
            how = "" if found is None else f"{METRICS[key].means}; {found.source}, n = {found.n}"
            yield charts.times(METRICS[key].label, spread, how, "half")
    methods = list(dict.fromkeys(arm.method or arm.name for arm in report.arms))
    how = f"counted, mean over {len(report.workload.items)} items"
    for what, unit in (
        ("Visual tokens per layer", "visual tokens"),
        ("KV cache per layer, after prefill", "bytes"),
    ):
        lines = []
        for arm in report.arms:
            rows = [
                item.kv_cache_prefill.per_layer_bytes if unit == "bytes" else item.per_layer_visual_tokens
                for item in arm.items
            ]
            same = [one for one in rows if len(one) == len(rows[0])]  # others have another depth
            means = tuple(sum(column) / len(same) for column in zip(*same, strict=True))
            kind = methods.index(arm.method or arm.name)
            lines.append(charts.ArmLine(title(arm), _arm(arm).role, means, kind))
        yield charts.layers(what, lines, unit, how)


def _layer_runs(arm: ArmPart) -> Cell:
    """Visual tokens that each layer processes, mean over items: '0–5: 44 · 6–11: 6'."""
    layers = zip(*(item.per_layer_visual_tokens for item in arm.items), strict=True)
    means = [units.tokens(sum(counts) / len(counts)) for counts in layers]
    said = []
    for mean, run in groupby(range(len(means)), key=means.__getitem__):
        first, *more = run
        said.append(f"{first}–{more[-1]}: {mean}" if more else f"{first}: {mean}")
    return Cell(" · ".join(said))


def _answer(item: ArmItem) -> Cell:
    return Cell(w.short(item.answer, _ANSWER) or "(nothing)", item.answer)


def _metrics(report: Report) -> Table:
    """Every metric of every arm with its statistics and ratio, and why others are not known."""
    data, ends = (DATA,), ("", "_low", "_high")
    more = tuple(f"{of}ratio{end}" for of in ("", *(f"{one}_" for one in PERCENTILES)) for end in ends)
    headers = (
        Column("arm", "schedule"),
        Column("metric", "metric"),
        Column("unit", "unit", on=data),
        Column("source", "source"),
        *(Column(one, one, right=True, on=data if one == "std" else (PAGE, DATA)) for one in STATISTICS),
        *(Column(one, one, right=True, on=data) for one in more),
        Column("unknown", "unknown"),
    )
    rows = []
    parts: Sequence[tuple[Cell, Measured]] = [
        *((Cell(title(arm), arm.name, role=_arm(arm).role), arm) for arm in report.arms),
        (Cell("whole process", PROCESS), report.process),
    ]
    for arm, part in parts:
        ratios = part.ratios if isinstance(part, ArmPart) else {}
        for key, metric in METRICS.items():
            found = {"arm": arm, "metric": Cell(metric.label, key)}
            if series := part.metrics.get(key):
                found |= {"unit": Cell(series.unit), "source": Cell(series.source), "n": w.counted(series.n)}
                found |= {one: w.number(key, getattr(series, one)) for one in STATISTICS[1:]}
                tails = part.percentile_ratios.get(key, {}) if isinstance(part, ArmPart) else {}
                quotients = [ratios.get(key), *(tails.get(one) for one in PERCENTILES)]
                raw = ((one.value, one.low, one.high) if one else (None,) * 3 for one in quotients)
                found |= dict(zip(more, w.raw(*chain(*raw)), strict=True))
                rows.append(found)
            elif reason := part.unknown.get(key):
                found |= dict.fromkeys(STATISTICS, NOT_KNOWN)
                rows.append(found | {"unit": Cell(metric.unit), "unknown": w.words(reason, 160)})
    return Table("Every metric, as measured", headers, tuple(rows), folded=True, on=(PAGE, DATA))
