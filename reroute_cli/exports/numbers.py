"""The formats that hold one report's numbers for another tool, by the names that --format gives them."""

from __future__ import annotations

from collections.abc import Callable

from reroute_cli.exports import bencher, github_action_benchmark
from reroute_cli.records.report import Report

NUMBERS: dict[str, Callable[[Report], str]] = {
    "github-action-benchmark": github_action_benchmark.export,
    "github-action-benchmark-bigger": github_action_benchmark.export_bigger,
    "bencher": bencher.export,
}
