"""Benchmarks by name. A new one is a file beside these and a line here."""

from __future__ import annotations

from reroute_cli.benchmarks import scenes
from reroute_cli.benchmarks.benchmark import Benchmark

BENCHMARKS: dict[str, Benchmark] = {
    "scenes": scenes.BENCHMARK,
}
