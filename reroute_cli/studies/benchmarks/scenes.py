"""The held-out scenes that come with the package, or any manifest of one's own: both are files of lines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from reroute_cli.data.images import as_text
from reroute_cli.data.items import batch_items, samples_manifest, spread
from reroute_cli.studies.benchmarks.benchmark import Benchmark, Questions, Wanted

HELD_OUT = "heldout"
LONGEST_ANSWER = 32  # tokens; a box takes 11


def of_manifest(path: Path, limit: int | None) -> Questions:
    """The questions of a manifest, each with its truth."""
    items = batch_items(None, None, path, None).chosen
    chosen = tuple(items[index] for index in spread(len(items), limit or len(items)))
    return Questions(chosen, len(chosen), {"manifest": as_text(str(path))}, len(items))


def _load(wanted: Wanted) -> Questions:
    path = samples_manifest()
    found = of_manifest(path.parent / HELD_OUT / path.name, wanted.limit)
    return replace(found, source={"bench": "scenes", "split": HELD_OUT})


BENCHMARK = Benchmark(
    name="scenes",
    title="held-out scenes",
    source="",
    splits=(HELD_OUT,),
    max_new_tokens=LONGEST_ANSWER,
    load=_load,
)
