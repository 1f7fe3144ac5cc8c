"""The tables of a report: metrics down the side for one or two arms, arms down the side for more.

Knows which metrics a person looks at first; not how a table is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from reroute_cli.console import units
from reroute_cli.metrics import METRICS, Level
from reroute_cli.records.report import ArmItem, ArmPart, Report
from reroute_cli.reporting.blocks import Table
from reroute_cli.reporting.words import number, quotient, short, title, typical, value

FIRST = (
    "visual_tokens",
    "vision_flops",
    "prefill_flops",
    "scoring_flops",
    "decode_flops",
    "kv_prefill",
    "kv_end",
)
TIMES = ("ttft", "vision", "prefill", "tpot", "e2e")
GPU = ("torch_peak_allocated", "torch_peak_reserved", "nvml_process_peak", "nvml_device_peak", "energy")
SIDE_BY_SIDE = 2  # arms that fit beside one another
_KEY_TIMES = ("ttft", "tpot", "e2e")
_SHORT = {"kv_prefill": "KV prefill", "kv_end": "KV end", "agreement": "equal"}
_INSIDE = {  # where FLOPs, bytes and seconds stand below one another
    "scoring_flops": "of it scoring",
    "kv_prefill": "KV after prefill",
    "kv_end": "KV at the end",
    "agreement": "answers equal",
    "vision": "of it vision",
    "prefill": "of it prefill",
}
_COLUMN = 17  # characters of the widest cell: '84.4 ms · 91.6 ms'
_A_TABLE = 3  # metrics beside one another, where arms go down the side
_ITEM, _ANSWER = 18, 32  # characters of an item's id, of an answer
_DIFFERENT = 8  # answers that differ, unless all are asked for


def metric_tables(report: Report, *, verbose: bool) -> list[Table]:
    """Everything measured, in the form that suits the number of arms."""
    if len(report.arms) <= SIDE_BY_SIDE:
        tables = [_by_metric(report, verbose)]
    else:
        tables = [_costs(report), _time_ratios(report), _times(report), *(_rest(report) if verbose else [])]
    return [*tables, _process(report)] if verbose else tables


def _by_metric(report: Report, verbose: bool) -> Table:
    """A row for each metric: dense, the other arm, their ratio."""
    names = _all_arm_metrics() if verbose else [*FIRST, *TIMES, *GPU]
    rows = [_metric_row(report, name) for name in names if _says_something(report, name)]
    if len(report.arms) == 1:
        return Table(("", "dense"), tuple((row[0], row[1]) for row in rows), right=(1,))
    headers = ("", "dense", _heading(report.arms[1]), "ratio [95%]")
    return Table(headers, tuple(rows), right=(1, 2))


def _heading(arm: ArmPart) -> str:
    """The arm's name above its column; the headline has told a name that would push the numbers aside."""
    name = title(arm)
    return name if len(name) <= _COLUMN else "routed"


def _all_arm_metrics() -> list[str]:
    order = [*FIRST, *TIMES]
    return order + [
        name for name, metric in METRICS.items() if metric.level is Level.ARM and name not in order
    ]


def _says_something(report: Report, name: str) -> bool:
    """Known in some arm, and not zero in all of them."""
    return any(name in arm.metrics and arm.metrics[name].max for arm in report.arms)


def _metric_row(report: Report, name: str) -> tuple[str, ...]:
    dense, *others = report.arms
    row = [_INSIDE.get(name, METRICS[name].label), value(dense, name)]
    for arm in others:
        row += [value(arm, name), quotient(arm.ratios.get(name))]
    return tuple(row)


def _process(report: Report) -> Table:
    """Numbers of the whole process, which no arm has for itself."""
    found = report.process.metrics.items()
    rows = tuple((METRICS[name].label, number(name, series.max)) for name, series in found)
    return Table(("whole process", ""), rows, right=(1,))


def _costs(report: Report) -> Table:
    """A row for each arm: dense in numbers, the others as parts of it."""
    rows = []
    for index, arm in enumerate(report.arms):
        names = ("prefill_flops", "kv_prefill", "kv_end")
        parts = [_ratio_value(arm, name) if index else value(arm, name) for name in names]
        rows.append((title(arm), value(arm, "visual_tokens"), *parts, value(arm, "agreement")))
    headers = ("mean over items", "tokens/layer", "prefill", "KV prefill", "KV end", "equal")
    return Table(headers, tuple(rows), right=(1, 2, 3, 4, 5))


def _time_ratios(report: Report) -> Table:
    rows = []
    for index, arm in enumerate(report.arms):
        parts = [quotient(arm.ratios.get(name)) if index else typical(arm, name) for name in _KEY_TIMES]
        rows.append((title(arm), *parts))
    headers = ("ratio to dense", *(METRICS[name].label for name in _KEY_TIMES))
    return Table(headers, tuple(rows))


def _times(report: Report) -> Table:
    rows = [(title(arm), *(value(arm, name) for name in _KEY_TIMES)) for arm in report.arms]
    headers = ("p50 · p90", *(METRICS[name].label for name in _KEY_TIMES))
    return Table(headers, tuple(rows), right=(1, 2, 3))


def _rest(report: Report) -> list[Table]:
    """Every other metric that is known, three a table."""
    shown = {"visual_tokens", "agreement", *_KEY_TIMES}
    names = [name for name in _all_arm_metrics() if name not in shown and _says_something(report, name)]
    groups = [names[start : start + _A_TABLE] for start in range(0, len(names), _A_TABLE)]
    return [_group(report, group) for group in groups]


def _group(report: Report, names: Sequence[str]) -> Table:
    """A few metrics beside one another, each with its ratio to dense."""
    rows = []
    for arm in report.arms:
        pairs = ((typical(arm, name), _ratio_value(arm, name)) for name in names)
        rows.append((title(arm), *(cell for pair in pairs for cell in pair)))
    headers = ("", *(header for name in names for header in (_SHORT.get(name, METRICS[name].label), "")))
    return Table(headers, tuple(rows), right=tuple(range(1, len(headers))))


def _ratio_value(arm: ArmPart, name: str) -> str:
    return f"{arm.ratios[name].value:.2f}×" if name in arm.ratios else ""


def layer_table(report: Report) -> Table:
    """Visual tokens that each layer processes, mean over items: '0–5: 44 · 6–11: 6'."""
    rows = tuple((title(arm), _layers(arm)) for arm in report.arms)
    return Table(("", "visual tokens by layer"), rows)


def _layers(arm: ArmPart) -> str:
    columns = zip(*(item.visual_per_layer for item in arm.items), strict=True)
    shown = [units.tokens(sum(counts) / len(counts)) for counts in columns]
    runs = [
        (count, [layer for layer, _ in run]) for count, run in groupby(enumerate(shown), lambda one: one[1])
    ]
    return " · ".join(f"{_span(layers)}: {count}" for count, layers in runs)


def _span(layers: Sequence[int]) -> str:
    return str(layers[0]) if len(layers) == 1 else f"{layers[0]}–{layers[-1]}"


def item_table(report: Report) -> Table:
    """Every question with the dense arm's answer."""
    pairs = zip(report.workload.items, report.dense.items, strict=True)
    rows = tuple(
        (short(asked.id, _ITEM), short(asked.question, _ANSWER), _answer(item)) for asked, item in pairs
    )
    return Table(("item", "question", "dense answered"), rows)


def difference_table(report: Report, *, everything: bool) -> tuple[Table | None, int]:
    """Answers that are not the dense arm's, and how many of them are left out."""
    rows = [row for index in range(len(report.workload.items)) for row in _differences(report, index)]
    if not rows:
        return None, 0
    shown = tuple(rows if everything else rows[:_DIFFERENT])
    return Table(("item", "arm", "answered", "dense answered"), shown), len(rows) - len(shown)


def _answer(item: ArmItem) -> str:
    return short(item.answer, _ANSWER) or "(nothing)"


def _differences(report: Report, index: int) -> list[tuple[str, ...]]:
    """One item's, arm by arm."""
    dense = report.dense.items[index]
    pairs = ((arm, arm.items[index]) for arm in report.arms[1:])
    return [
        (short(item.id, _ITEM), title(arm), _answer(item), _answer(dense))
        for arm, item in pairs
        if not item.agrees
    ]
