"""The measuring loop: every pass over every item and arm, in the one order that treats all arms alike.

A pass measures one kind of thing and goes item by item, arm by arm (A B A B), the dense arm first; the arms
do equal work: the same prompts, the same warm-up, the same forced length. While the clock matters Python's
garbage collector runs between answers, never inside one. Prints nothing; knows neither reports nor files.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from reroute_cli.measure import passes
from reroute_cli.measure.flops import Flops
from reroute_cli.measure.kv import KvUse
from reroute_cli.profiling.plan import Plan
from reroute_cli.profiling.work import Work

Tell = Callable[[str], None]  # what is going on now
Done = Callable[[], None]  # one more answer is there
Found = TypeVar("Found")
Grid = list[list[Found]]  # [item][arm]


@dataclass(frozen=True)
class Caches:
    """The KV cache of one item under one arm: after the prefill, and after the last token."""

    prefill: KvUse
    end: KvUse


@dataclass(frozen=True)
class Measured:
    """All that was measured. preprocess: for each round, seconds of each item; one grid of times a round.

    flops: None where the counter can't see the attention.
    """

    answers: Grid[passes.TimedPass]
    preprocess: list[list[float]]
    rounds: list[Grid[passes.Times]]
    flops: Grid[Flops | None]
    caches: Grid[Caches]
    memory: Grid[passes.MemoryPass]


def measure(work: Work, plan: Plan, tell: Tell, done: Done) -> Measured:
    """Every pass, one kind after the other."""
    tell("answers")
    answers = _sweep(work, lambda job: passes.timed_pass(job, plan.new_tokens), done)
    preprocess, rounds = _timed(work, plan, tell, done)
    tell("FLOPs")
    flops = _sweep(work, lambda job: _flops(job, plan.new_tokens), done)
    tell("memory")
    memory = _sweep(work, lambda job: _memory(job, plan.new_tokens), done)
    return Measured(
        answers,
        preprocess,
        rounds,
        flops,
        caches=[[caches for caches, _ in row] for row in memory],
        memory=[[peaks for _, peaks in row] for row in memory],
    )


def _sweep(work: Work, measure_one: Callable[[passes.Job], Found], done: Done) -> Grid[Found]:
    """One pass, item by item, arm by arm.

    An item's inputs go to the device when its turn comes, outside of any clock, once for all its arms: the
    device never holds those of other items, which would count as memory of this one.
    """
    grid: Grid[Found] = []
    for task in work.tasks:
        inputs = passes.on_device(task.prompt.inputs, work.loaded.model)
        row: list[Found] = []
        for schedule in task.schedules:
            row.append(measure_one(passes.Job(work.loaded, inputs, schedule)))
            done()
        grid.append(row)
    return grid


def _timed(
    work: Work, plan: Plan, tell: Tell, done: Done
) -> tuple[list[list[float]], list[Grid[passes.Times]]]:
    """Warm-up rounds, then timed ones, which differ from them in nothing but being kept."""
    preprocess, rounds = [], []
    with calm_collector():
        for number in range(plan.warmup + plan.rounds):
            kept = number - plan.warmup
            name = ("warm-up", number + 1, plan.warmup) if kept < 0 else ("round", kept + 1, plan.rounds)
            tell("{} {} of {}".format(*name))
            seconds = [task.preprocess(work.loaded) for task in work.tasks]
            times = _sweep(work, lambda job: _collected(job, plan.new_tokens), done)
            if kept >= 0:
                preprocess.append(seconds)
                rounds.append(times)
    return preprocess, rounds


def _collected(job: passes.Job, new_tokens: int) -> passes.Times:
    """One timed answer, right after the garbage of the one before is gone."""
    gc.collect()
    return passes.forced_pass(job, new_tokens)


def _flops(job: passes.Job, new_tokens: int) -> Flops | None:
    return passes.count_flops(job, new_tokens) if job.loaded.attention in passes.COUNTED else None


def _memory(job: passes.Job, new_tokens: int) -> tuple[Caches, passes.MemoryPass]:
    peaks = passes.memory_pass(job, new_tokens)
    return Caches(passes.cache_pass(job, 1), passes.cache_pass(job, new_tokens)), peaks


@contextmanager
def calm_collector() -> Iterator[None]:
    """No automatic garbage collection, and collections by hand that skip what was there before."""
    running = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if running:
            gc.enable()
