"""One kind of measurement at a time: a tracker that is open keeps every other one closed.

Counting FLOPs slows a model down, and sampling a driver takes time, so numbers taken together are wrong.
Knows no tracker; it is one lock for the whole process.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.Lock()
_OPEN: list[str] = []


@contextmanager
def alone(kind: str) -> Iterator[None]:
    """Hold the right to measure; RuntimeError where it is held already, in this thread or another.

    kind: what is measured, as the message names it.
    """
    if not _LOCK.acquire(blocking=False):
        raise RuntimeError(
            f"{kind} can't be measured while {' and '.join(_OPEN) or 'something'} is being measured: each "
            "would falsify the other; give each kind of number a pass of its own"
        )
    _OPEN.append(kind)
    try:
        yield
    finally:
        _OPEN.clear()
        _LOCK.release()
