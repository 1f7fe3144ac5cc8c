"""Benchmarks by name. A new one is a file beside these and a line here."""

from __future__ import annotations

from reroute_cli.benchmarks import gqa, mmbench, mme, pope, refcoco, scenes
from reroute_cli.benchmarks.benchmark import Benchmark
from reroute_cli.records.lists import BenchmarkList, BenchmarkPart

BENCHMARKS: dict[str, Benchmark] = {
    "scenes": scenes.BENCHMARK,
    "refcoco": refcoco.REFCOCO,
    "refcoco+": refcoco.REFCOCO_PLUS,
    "refcocog": refcoco.REFCOCOG,
    "pope": pope.BENCHMARK,
    "gqa": gqa.BENCHMARK,
    "mme": mme.BENCHMARK,
    "mmbench": mmbench.BENCHMARK,
}


def listed() -> BenchmarkList:
    """Every benchmark with its splits and where it comes from."""
    rows = [
        BenchmarkPart(
            name=found.name,
            title=found.title,
            source=found.source or "in the package",
            splits=list(found.splits),
            scores=[score.name for score in found.scores],
            max_new_tokens=found.max_new_tokens,
            notes=found.notes,
        )
        for found in BENCHMARKS.values()
    ]
    return BenchmarkList(benchmarks=rows)
