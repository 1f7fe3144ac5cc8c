"""Work done ahead in threads, handed out in order, never more than a few results at once.

Knows nothing of the work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


class Waiting:
    """Seconds that somebody waited for work that was not done yet."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def take(self, future: Future[Made]) -> Made:
        """The result, once it is there."""
        start = perf_counter()
        try:
            return future.result()
        finally:
            self.seconds += perf_counter() - start


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
    drops what was not begun.
    """
    clock, pending = waiting or Waiting(), deque[Future[Made]]()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="reroute-ahead")
    try:
        for thing in things:
            pending.append(pool.submit(work, thing))
            if len(pending) >= depth:
                yield clock.take(pending.popleft())
        while pending:
            yield clock.take(pending.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
