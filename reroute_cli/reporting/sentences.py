"""The sentences of a report: the headline, what would mislead if it were not said, how numbers were made.

Knows reports and words; not tables.
"""

from __future__ import annotations

from collections.abc import Iterator

from reroute_cli.metrics import METRICS
from reroute_cli.records.report import ArmPart, Ratio, Report
from reroute_cli.reporting.generation import not_neutral
from reroute_cli.reporting.words import amount, equal_answers, quotient, short, title, typical

_KEY = {"prefill {} FLOPs": "prefill_flops", "TTFT {}": "ttft", "KV {}": "kv_prefill"}
_SLOWER = ("ttft", "tpot", "e2e")
_NAMED = 3  # arms that a sentence names


def headline(report: Report) -> str:
    """What came out, in one sentence."""
    others = report.arms[1:]
    if not others:
        return _dense(report.dense)
    return _one(others[0]) if len(others) == 1 else _several(others)


def _dense(arm: ArmPart) -> str:
    said = [
        words.replace(" FLOPs", "").format(typical(arm, name))
        for words, name in _KEY.items()
        if name in arm.metrics
    ]
    return f"dense: {', '.join(said)}"


def _one(arm: ArmPart) -> str:
    said = [words.format(quotient(arm.ratios[name])) for words, name in _KEY.items() if name in arm.ratios]
    return f"{title(arm)}{amount(arm)}: {', '.join(said)}, answers {equal_answers(arm)} equal"


def _several(arms: list[ArmPart]) -> str:
    """The extremes: who has the first token soonest, and whose answers are dense's."""
    said = []
    if timed := [arm for arm in arms if "ttft" in arm.ratios]:
        soonest = min(timed, key=lambda arm: arm.ratios["ttft"].value)
        ttft = quotient(soonest.ratios["ttft"])
        said.append(f"first token soonest with {title(soonest)}, TTFT {ttft}")
    said.append(_closest(arms))
    return f"{len(arms)} schedules{amount(arms[0])}: {'; '.join(said)}"


def _closest(arms: list[ArmPart]) -> str:
    agreed = {index: sum(item.agrees for item in arm.items) for index, arm in enumerate(arms)}
    best = max(agreed, key=agreed.__getitem__)
    if not agreed[best]:
        return "no answer equal to dense"
    return f"most answers equal with {title(arms[best])}, {equal_answers(arms[best])}"


def warnings(report: Report, *, verbose: bool) -> Iterator[str]:
    """What would mislead if it were not said."""
    if report.model.weights == "random":
        yield "random weights: the costs are real, the answers mean nothing"
    yield from not_neutral(report.generation)
    most = None if verbose else _NAMED
    if slower := [found for arm in report.arms[1:] for found in _slower(arm)]:
        yield f"slower than dense: {_listed(slower, most)}"
    if behind := [found for arm in report.arms[1:] if (found := _behind(arm))]:
        yield f"FLOPs saved are not time saved: prefill took {_listed(behind, most)}"


def _slower(arm: ArmPart) -> list[str]:
    return [
        f"{title(arm)}, {METRICS[name].label} {quotient(arm.ratios[name])}"
        for name in _SLOWER
        if name in arm.ratios and _above(arm.ratios[name], 1.0)
    ]


def _behind(arm: ArmPart) -> str | None:
    """Where the decoder's prefill surely took more of dense's time than of its FLOPs."""
    time, flops = arm.ratios.get("prefill"), arm.ratios.get("prefill_flops")
    if time is None or flops is None or not _above(time, flops.value):
        return None
    return f"{quotient(time)} of the time for {quotient(flops)} of the FLOPs ({title(arm)})"


def _above(ratio: Ratio, limit: float) -> bool:
    """Whether all of the interval is; too few values for one show nothing."""
    return ratio.low is not None and ratio.low > limit


def _listed(found: list[str], most: int | None) -> str:
    left = len(found) - len(found[:most])
    return "; ".join(found[:most]) + (f"; and {left} more" if left else "")


def notes(report: Report) -> Iterator[str]:
    """How the numbers were made, and who made them."""
    workload = report.workload
    yield _values(report)
    yield _made(report)
    yield "2 FLOPs per multiply-add, the full attention rectangle; prefill FLOPs include scoring"
    if reason := _no_interval(report):
        yield f"no intervals: {reason}"
    if cut := sum(item.finish == "length" for arm in report.arms for item in arm.items):
        yield f"{_count(cut, 'answer')} cut at --max-new-tokens {workload.new_tokens}"
    yield from _unknown(report)
    yield _who(report)


def _made(report: Report) -> str:
    means = "FLOPs, bytes and tokens are means over items"
    if len(report.arms) == 1:
        return f"measured in this run: times are p50 · p90; {means}"
    ratios = "ratios are of p50 with a bootstrap 95% interval"
    return f"measured in this run, arms interleaved: times are p50 · p90, {ratios}; {means}"


def _values(report: Report) -> str:
    items, rounds = len(report.workload.items), report.protocol.rounds
    values = (
        f"{_count(items, 'item')} × {_count(rounds, 'round')}: {_count(items * rounds, 'value')} of a time"
    )
    warm = _count(report.protocol.warmup, "warm-up round")
    return f"{values}, after {warm}; {_count(report.workload.new_tokens, 'new token')} forced"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _no_interval(report: Report) -> str | None:
    ratios = (ratio for arm in report.arms for ratio in arm.ratios.values())
    return next((ratio.reasons["low"] for ratio in ratios if ratio.low is None), None)


def _unknown(report: Report) -> Iterator[str]:
    """What is not known, reason by reason, once for all arms."""
    reasons: dict[str, dict[str, None]] = {}
    for part in (*report.arms, report.process):
        for name, reason in part.unknown.items():
            reasons.setdefault(reason, {})[METRICS[name].label] = None
    for reason, labels in reasons.items():
        yield f"unknown: {', '.join(labels)} ({short(reason, 200)})"


def _who(report: Report) -> str:
    model, device = report.model, report.model.device or ""
    return " · ".join(
        (
            f"{short(model.id, 60)} · {short(model.family, 30)}, {_count(model.layers or 0, 'layer')}",
            f"{device} {model.dtype} {model.attention}",
            short(_machine(report), 60),
        )
    )


def _machine(report: Report) -> str:
    """The GPU that ran, or the processor with torch's threads."""
    kind, _, index = (report.model.device or "").partition(":")
    gpus = report.environment.get("gpus") or []
    if kind == "cuda" and int(index or 0) < len(gpus):
        return str(gpus[int(index or 0)].get("name"))
    cpu = report.environment.get("cpu") or {}
    return f"{cpu.get('model')}, {_count(int(cpu.get('torch_threads') or 0), 'thread')}"
