"""Every call once a round, the rounds forwards and backwards in turn, so that drift meets all alike.

Knows a clock and the device's synchronise. Knows no model and no schedule.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

Clock = Callable[[], float]


@dataclass(frozen=True)
class Timed:
    """A call that is timed, inside a context whose entering and leaving are not."""

    call: Callable[[], object]
    within: Callable[[], AbstractContextManager[object]] = field(default=nullcontext)


def interleave(
    calls: Mapping[str, Timed],
    rounds: int,
    wait: Callable[[], None],
    done: Callable[[str, float], None],
    clock: Clock = time.perf_counter,
) -> None:
    """Tell `done` name and seconds of every call, `rounds` times after one round that is not told.

    wait: returns when the device has finished all work.
    """
    for number in range(rounds + 1):
        order = list(calls.items())
        for name, timed in order if number % 2 else reversed(order):
            with timed.within():
                wait()
                start = clock()
                timed.call()
                wait()
                seconds = clock() - start
            if number:
                done(name, seconds)
