"""The README's measured tables, from the reports in profiles/reports/: measured once, shown as they are."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any
from unittest import mock

from tests import readme

REPORTS = readme.ROOT / "profiles" / "reports"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(
        f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines
    )


def profile() -> str:
    """The committed report of the documented command, as the command shows it."""
    from reroute_cli.output import draw
    from reroute_cli.records.files import read_report
    from reroute_cli.render.report import report_page

    report = read_report(REPORTS / "pocket-profile.json")
    with mock.patch.dict(os.environ, {"COLUMNS": "100", "NO_COLOR": "1"}):
        shown = draw(tuple(report_page(report)), io.StringIO())
    return f"```console\n$ reroute profile --method nuwa --ratio 0.9\n{shown}```\n"


def reduction() -> str:
    """The committed report of samples.reduction_table: prune beside reroute, method by method."""
    report = _read("pocket-reduction.json")
    arms = {(arm["method"], arm["action"], arm["ratio"]): arm for arm in report["arms"]}
    dense = arms["none", "prune", 0.0]
    said = ", ".join(
        f"{name} {_estimate(dense[group]['right'])} (n = {dense[group]['n']})"
        for group, name in (("boxes", "Acc@0.5"), ("yes_no", "yes/no"))
    )
    head = ["method", "ratio"]
    for name in ("Acc@0.5", "yes/no"):
        head += [f"{name} prune", "reroute", "reroute − prune"]
    rows = [
        [
            f"`{method}`",
            ratio,
            *_compared(arms, method, ratio, "boxes"),
            *_compared(arms, method, ratio, "yes_no"),
        ]
        for method, action, ratio in arms
        if action == "reroute"
    ]
    return f"Dense: {said}.\n\n" + table(head, rows)


def _compared(arms: dict[Any, Any], method: str, ratio: float, group: str) -> list[str]:
    pruned, rerouted = arms[method, "prune", ratio][group], arms[method, "reroute", ratio][group]
    return [f"{a['right']['value']:.3f}" for a in (pruned, rerouted)] + [_estimate(rerouted["minus_prune"])]


def _estimate(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


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


def _fast(arm: dict[str, Any]) -> list[str]:
    seconds, shares = arm["seconds"], arm["shares"]
    deciding = f"{_milliseconds(seconds['deciding'])} ({_milliseconds(seconds['floor'])})"
    return [
        _milliseconds(seconds["routed"]),
        f"{shares['of_limit_a']['median']:.2f}",
        _share(shares["of_limit_b_and_floor"]),
        deciding,
    ]


def _share(share: dict[str, float]) -> str:
    return f"{share['median']:.2f} [{share['low']:.2f}, {share['high']:.2f}]"


def _milliseconds(seconds: dict[str, Any]) -> str:
    shown = seconds["median"] * 1e3
    return f"{shown:.0f} ms" if shown >= 100 else f"{shown:.1f} ms"


def _machine(report: dict[str, Any]) -> str:
    """'AMD EPYC, 2 threads, torch 2.13.0, ...; medians of 11 rounds'."""
    environment = report["environment"]
    cpu, packages = environment["cpu"], environment["packages"]
    return (
        f"{cpu['model']}, {cpu['torch_threads']} of {cpu['cores']} cores, torch {packages['torch']}, "
        f"transformers {packages['transformers']}; medians of {report['rounds']} rounds [95% interval].\n\n"
    )


def _read(name: str) -> Any:
    return json.loads((REPORTS / name).read_text(encoding="utf-8"))
