"""Benchmarks by name. A new one is a file beside these and a line here, or an entry point of another package.

Nothing is imported before a benchmark is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from reroute_cli.console.errors import Failure, UsageError

if TYPE_CHECKING:
    from reroute_cli.records.lists import BenchmarkList
    from reroute_cli.studies.benchmarks.benchmark import Benchmark

BENCHMARKS: dict[str, str] = {  # name -> the file here and the `Benchmark` in it
    "scenes": "scenes:BENCHMARK",
    "refcoco": "refcoco:REFCOCO",
    "refcoco+": "refcoco:REFCOCO_PLUS",
    "refcocog": "refcoco:REFCOCOG",
    "pope": "pope:BENCHMARK",
    "gqa": "gqa:BENCHMARK",
    "mme": "mme:BENCHMARK",
    "mmbench": "mmbench:BENCHMARK",
}
GROUP = "reroute.benchmarks"  # the entry points of packages that bring benchmarks: NAME = "MODULE:BENCHMARK"


def names() -> list[str]:
    """The name of every benchmark: those here, then those of installed packages, by the alphabet."""
    return [*BENCHMARKS, *_installed()]


def _installed() -> dict[str, EntryPoint]:
    """Entry points of other packages; a name that is taken here stays what it is here."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    return {name: found[name] for name in sorted(found) if name not in BENCHMARKS}


def load_benchmark(name: str) -> Benchmark:
    """The benchmark of this name, imported now.

    Raises:
        UsageError: there is none.
        Failure: an installed package has one that can't be loaded or is no `Benchmark`.
    """
    if name in BENCHMARKS:
        module, _, attribute = BENCHMARKS[name].partition(":")
        ours: Benchmark = getattr(import_module(f"{__name__}.{module}"), attribute)
        return ours
    point = _installed().get(name)
    if point is None:
        raise UsageError(
            f"there is no benchmark '{name}': choose one of {', '.join(names())}, or give --manifest FILE"
        )
    from reroute_cli.studies.benchmarks.benchmark import Benchmark

    where = f"the benchmark '{name}' of {point.dist.name if point.dist else 'an installed package'}"
    try:
        found = point.load()
    except (Exception, SystemExit) as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise Failure(f"{where} can't be loaded ({why}): update that package, or uninstall it") from error
    if not isinstance(found, Benchmark) or found.name != name:
        named = f"is called '{found.name}'" if isinstance(found, Benchmark) else "is no Benchmark"
        raise Failure(f"{where}: '{point.value}' {named}: update that package, or uninstall it")
    return found


def load_all(say: Callable[[str], None]) -> list[Benchmark]:
    """Every benchmark that can be loaded; `say` gets one sentence on each that can't."""
    found = []
    for name in names():
        try:
            found.append(load_benchmark(name))
        except Failure as error:
            say(str(error))
    return found


def listed(say: Callable[[str], None]) -> BenchmarkList:
    """Every benchmark with its splits and where it comes from; `say` as in `load_all`."""
    from reroute_cli.records.lists import BenchmarkList, BenchmarkPart

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
        for found in load_all(say)
    ]
    return BenchmarkList(benchmarks=rows)
