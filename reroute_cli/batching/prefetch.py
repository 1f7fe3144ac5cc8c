"""Work done ahead in threads, handed out in order, never more than a few results at once.

Knows nothing of the work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from time import perf_counter
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


class Waiting:
    """Seconds that somebody waited for what was not there yet."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def over(self, made: Generator[Made]) -> Generator[Made]:
        """The same results; the time until each is there counts, whatever took it."""
        with closing(made):
            while True:
                start = perf_counter()
                try:
                    result = next(made)
                except StopIteration:
                    return
                finally:
                    self.seconds += perf_counter() - start
                yield result


def ahead(
    work: Callable[[Given], Made],
    things: Iterable[Given],
    *,
    workers: int,
    depth: int,
    waiting: Waiting | None = None,
) -> Generator[Made]:
    """`work` of every thing, in order; at most `depth` are begun or done before they are asked for.

    The things themselves are taken one by one in the caller's thread. Closing the iterator, or an exception,
    drops what was not begun. waiting: counts how long the caller waited, for things as for their results.
    """
    made = _ahead(work, things, workers, depth)
    return made if waiting is None else waiting.over(made)


def _ahead(
    work: Callable[[Given], Made], things: Iterable[Given], workers: int, depth: int
) -> Generator[Made]:
    pending = deque[Future[Made]]()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="reroute-ahead")
    try:
        for thing in things:
            pending.append(pool.submit(work, thing))
            if len(pending) >= depth:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
