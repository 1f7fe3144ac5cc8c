"""Benchmarks by name. A new one is a file beside these and a line here."""

from __future__ import annotations

from reroute_cli.studies.benchmarks import gqa, mmbench, mme, pope, refcoco, scenes
from reroute_cli.studies.benchmarks.benchmark import Benchmark

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
