"""The documents' measured tables, from the reports in samples/results/: measured once, shown as they are."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any
from unittest import mock

from reroute_cli.records.migrate import upgraded
from tests import readme

REPORTS = readme.ROOT / "samples" / "results"
BATCHES = (  # by what the ratios are: other programs ran on the machine of the first
    ("batch-speed-1-core.json", "the processor", "times_less_processor"),
    ("batch-speed-shape-2-cores.json", "the clock", "times_faster"),
)
SCORES = ["method", "ratio", "box Acc@0.5 prune", "reroute", "reroute − prune"]
SHOWN = ("random", "downsample", "fastv", "sparsevlm", "divprune", "visionzip", "nuwa")  # by the README
SCORES += ["answers right prune", "reroute", "reroute − prune", "prefill FLOPs", "TTFT"]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(
        f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines
    )


def profile() -> str:
    """The committed report of the documented command, as the command shows it."""

    from reroute_cli.console.output import draw
    from reroute_cli.records.reading import read_report
    from reroute_cli.views.emit import document
    from reroute_cli.views.write import terminal

    report = read_report(REPORTS / "pocket-profile.json")
    with mock.patch.dict(os.environ, {"COLUMNS": "100", "NO_COLOR": "1"}):
        shown = draw(tuple(terminal.page(document(report))), io.StringIO())
    return f"```console\n$ reroute profile --method nuwa --ratio 0.9\n{shown}```\n"


def results() -> str:
    """Some methods of the committed sweep over all of them, beside the dense model."""
    report = _read("scenes-methods.json")
    arms = {arm["name"]: arm for arm in report["arms"]}
    scores = [arms["dense"]["scores"][name] for name in ("box_acc_at_05", "words_right")]
    boxes, words = (f"**{score['value']:.2f}**" for score in scores)
    dense = ["dense", boxes, boxes, "", words, words, "", "1.00×"]
    pairs = {pair["place"]: pair for pair in _pairs(report)}
    rows = [_paired(arms, pairs[place])[:-1] for place in SHOWN]
    return table(SCORES[:1] + SCORES[2:-1], [dense, *([row[0], *row[2:]] for row in rows)])


def methods_sweep() -> str:
    """The committed sweep over all methods at one reduction ratio."""
    return sweep("scenes-methods.json")


def methods_ratios() -> str:
    """The sweep over all methods and ratios, pruned beside rerouted: a table for each score."""
    report = _read("scenes-methods-ratios.json")
    counts, dense = report["counts"], report["arms"][0]["scores"]
    ratios = sorted({arm["ratio"] for arm in report["arms"][1:]})
    made = f"{counts['items']} questions about {counts['images']} images, {counts['answers']:,} answers.\n"
    for score in report["scores"]:
        if score["shown"]:
            head = f"{score['title']}, dense {_bounds(dense[score['name']])}"
            rows = _by_ratio(report, score["name"]).items()
            lines = [[f"`{place}`", *(cells.get(ratio, "") for ratio in ratios)] for place, cells in rows]
            made += "\n" + table([head, *map(str, ratios)], lines)
    return made


def _by_ratio(report: dict[str, Any], score: str) -> dict[str, dict[float, str]]:
    """Method -> ratio -> 'prune → reroute', bold where the interval of their difference does not hold 0."""
    arms = {arm["name"]: arm for arm in report["arms"]}
    found: dict[str, dict[float, str]] = {}
    for pair in _pairs(report):
        both = [arms[pair[action]] for action in ("prune", "reroute") if pair[action]]
        if any(arm["refused"] for arm in both):
            continue
        cell = " → ".join(f"{arm['scores'][score]['value']:.2f}" for arm in both)
        if len(both) > 1 and pair["scores"][score]["low"] * pair["scores"][score]["high"] > 0:
            cell = f"**{cell}**"
        found.setdefault(pair["place"], {})[pair["ratio"]] = cell
    return found


def sweep(name: str = "scenes-sweep.json") -> str:
    """A committed sweep over held-out scenes: prune beside reroute at equal averages, with their costs."""
    report = _read(name)
    arms = {arm["name"]: arm for arm in report["arms"]}
    dense, counts = arms["dense"], report["counts"]
    shown = [dense["scores"][score["name"]] for score in report["scores"] if score["shown"]]
    said = ", ".join(f"{score['title']} {_bounds(score)} (n = {score['n']})" for score in shown)
    rows = [
        _paired(arms, pair)
        for pair in _pairs(report)
        if all(arms[pair[action]]["refused"] is None for action in ("prune", "reroute") if pair[action])
    ]
    asked = f"{counts['items']} questions about {counts['images']} images, {counts['answers']:,} answers"
    return f"{asked}. Dense: {said}.\n\n" + table(SCORES, rows)


def _pairs(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The pairs of a sweep, and behind them what has no actions, as halves of one."""
    alone = [arm for arm in report["arms"][1:] if arm["action"] is None]
    return report["pairs"] + [
        {"place": arm["place"], "ratio": arm["ratio"], "prune": arm["name"], "reroute": None} for arm in alone
    ]


def _paired(arms: dict[str, Any], pair: dict[str, Any]) -> list[object]:
    """A row of a table; a method without actions has no reroute beside it."""
    both = [arms[pair[action]] for action in ("prune", "reroute") if pair[action]]
    row: list[object] = [f"`{pair['place']}`", pair["ratio"]]
    for score in ("box_acc_at_05", "words_right"):
        row += [f"{arm['scores'][score]['value']:.2f}" for arm in both] + [""] * (2 - len(both))
        row.append(_bounds(pair["scores"][score], signed=True) if len(both) > 1 else "")
    return row + [_costs(both, cost) for cost in ("prefill_flops", "ttft")]


def _costs(arms: Sequence[dict[str, Any]], cost: str) -> str:
    known = [share for arm in arms if (share := arm["costs"].get(cost, {}).get("ratio_to_dense"))]
    return " · ".join(f"{share:.2f}×" for share in known)


def _bounds(part: dict[str, Any], *, signed: bool = False) -> str:
    """A value and its interval, where it has one; a difference with its sign."""
    form = "{:+.2f}" if signed else "{:.2f}"
    value, low, high = (part[name] for name in ("value", "low", "high"))
    value, *ends = (
        form.format(number).replace("-", "−") for number in (value, low, high) if number is not None
    )
    return f"{value} [{', '.join(ends)}]" if ends else value


def tune() -> str:
    """The committed report of the documented search, as the command shows it."""

    from reroute_cli.console.output import draw
    from reroute_cli.records.migrate import upgraded
    from reroute_cli.records.tune import TuneReport
    from reroute_cli.views.emit import document
    from reroute_cli.views.write import terminal

    report = TuneReport.model_validate(upgraded(_read("scenes-tune.json")))
    with mock.patch.dict(os.environ, {"COLUMNS": "100", "NO_COLOR": "1"}):
        shown = draw(tuple(terminal.page(document(report))), io.StringIO())
    asked = "--ratio 0.667 --methods fastv,pdrop --limit 800 --seed 1"
    return f"```console\n$ reroute tune {asked} --records answers.jsonl --write mine.yaml\n{shown}```\n"


def question_speed() -> str:
    """The committed reports of the benchmark of questions: how many times faster than a pass for each."""
    rows = []
    for name in ("question-speed-1-core.json", "question-speed-shape-1-core.json"):
        report = _read(name)
        for arm, counts in report["results"].items():
            for count, ways in counts.items():
                cells = [report["model"]["name"], f"`{arm}`", count, f"{ways['alone']['seconds']:.3g} s"]
                for way in ("together", "shared"):
                    faster = ways[way]["times_faster"]
                    told = faster["low"] is not None  # by enough rounds for an interval
                    cells.append(f"{_share(faster, 'value') if told else format(faster['value'], '.2f')}×")
                rows.append([*cells, f"{ways['shared']['flops_share']:.2f}"])
    columns = (
        "model",
        "schedule",
        "questions",
        "a pass each",
        "one pass",
        "image shared",
        "FLOPs of a pass each",
    )
    return table(columns, rows)


def batch_speed() -> str:
    """The committed reports of the benchmark of batches: beside batch 1, then beside transformers alone."""
    alone, beside = [], []
    for name, seconds, ratio in BATCHES:
        report = _read(name)
        for arm, sizes in report["results"].items():
            row = [report["model"]["name"], f"`{arm}`"]
            found = [sizes.get(size) for size in ("1", "2", "4", "8", "16")]
            alone.append([*row, seconds, *(_times(one, ratio) for one in found[1:])])
            if "generate" in report["results"] and arm != "generate":
                beside.append([*row, seconds, *(_times(one, f"{ratio}_than_generate") for one in found)])
    head, sizes = ("model", "schedule", "seconds of"), ("batch 2", "batch 4", "batch 8", "batch 16")
    return f"{table((*head, *sizes), alone)}\n{table((*head, 'batch 1', *sizes), beside)}"


def _times(found: dict[str, Any] | None, ratio: str) -> str:
    return "" if found is None else f"{_share(found[ratio], 'value')}×"


def encode_once() -> str:
    """The committed report of the same sweep with and without a feature cache."""
    report = _read("encode-once-2-cores.json")
    rows = []
    for model, found in report["results"].items():
        every, once = found["ways"].values()
        rows.append(
            [
                model,
                f"{found['images']} images, {found['answers']} answers",
                f"{every['tower_runs']} → {once['tower_runs']}",
                f"{every['seconds']:.0f} → {once['seconds']:.0f} s",
                f"{found['times_faster']['value']:.2f}×",
                f"{found['times_less_processor']['value']:.2f}×",
            ]
        )
    return table(("model", "asked", "tower runs", "time", "faster", "less processor time"), rows)


def speed() -> str:
    """The committed report of the engine's benchmark: routed time beside its two limits."""
    report = _read("engine-speed-2-cores.json")
    results = {result["dtype"]: result for result in report["results"]}
    head = ["schedule", "ratio"]
    for dtype in results:
        head += [f"{dtype}", "of A", "of B + floor", "deciding (floor)"]
    dense = ["dense", ""]
    for result in results.values():
        dense += [_milliseconds(result["dense_s"]), "", "", ""]
    arms = zip(*(result["arms"] for result in results.values()), strict=True)
    rows = [
        [
            f"`{same[0]['method']}` {same[0]['action']}",
            same[0]["ratio"],
            *(cell for arm in same for cell in _fast(arm)),
        ]
        for same in arms
    ]
    return _machine(report) + table(head, [dense, *rows])


def speed_of_kinds() -> str:
    """The same of the decoders with recurrent layers or windows: medians alone, at the two ends."""
    rows, machines = [], set()
    for decoder in ("hybrid", "window"):
        report = _read(f"engine-speed-{decoder}.json")
        machines.add(_machine(report))
        for same in zip(*(result["arms"] for result in report["results"]), strict=True):
            if same[0]["ratio"] in (0.667, 0.889):
                shares = [
                    (arm["shares"]["of_limit_a"], arm["shares"]["of_limit_b_and_floor"]) for arm in same
                ]
                cells = (f"{share['median']:.2f}" for pair in shares for share in pair)
                rows.append([decoder, f"`{same[0]['method']}` {same[0]['action']}", same[0]["ratio"], *cells])
    head = ("decoder", "schedule", "ratio", "float32: of A", "of B + floor", "bfloat16: of A", "of B + floor")
    return "".join(machines) + table(head, rows)


def _fast(arm: dict[str, Any]) -> list[str]:
    seconds, shares = arm["seconds"], arm["shares"]
    deciding = f"{_milliseconds(seconds['deciding'])} ({_milliseconds(seconds['floor'])})"
    return [
        _milliseconds(seconds["routed"]),
        f"{shares['of_limit_a']['median']:.2f}",
        _share(shares["of_limit_b_and_floor"]),
        deciding,
    ]


def _share(share: dict[str, float], middle: str = "median") -> str:
    return f"{share[middle]:.2f} [{share['low']:.2f}, {share['high']:.2f}]"


def _milliseconds(seconds: dict[str, Any]) -> str:
    shown = seconds["median"] * 1e3
    return f"{shown:.0f} ms" if shown >= 100 else f"{shown:.1f} ms"


def _machine(report: dict[str, Any]) -> str:
    """'AMD EPYC, 2 threads, torch 2.13.0, ...; medians of 11 rounds'."""
    environment = report["environment"]
    cpu, packages = environment["cpu"], environment["packages"]
    return (
        f"{cpu['model']}, {cpu['torch_threads']} of {cpu['cores']} cores, torch {packages['torch']}, "
        f"transformers {packages['transformers']}; medians of {report['rounds']} rounds "
        "[95% confidence interval].\n\n"
    )


def _read(name: str) -> Any:
    """A committed report, as this release would have written it."""
    return upgraded(json.loads((REPORTS / name).read_text(encoding="utf-8")))
