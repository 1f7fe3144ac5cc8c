"""Where Ray's own words go: not to stdout, which is the records', nor to stderr unless somebody wants them.

Ray prints on both streams, from Python as from C++, and has no switch for all of it. What its processes write
is in files of its own (/tmp/ray) in any case. Knows streams; not Ray.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TextIO

_STDERR = 2


@contextmanager
def apart(*, verbose: bool) -> Iterator[TextIO]:
    """While the block runs stdout is the stream that this gives, and `print` goes to stderr, or nowhere.

    Unless verbose, what C++ writes to stderr goes nowhere as well; `sys.stderr` stays what it was.
    """
    stdout = sys.stdout
    with ExitStack() as stack:
        nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
        if not verbose:
            stack.enter_context(_native_stderr_to(nowhere))
        stack.enter_context(redirect_stdout(sys.stderr if verbose else nowhere))
        yield stdout


@contextmanager
def _native_stderr_to(nowhere: TextIO) -> Iterator[None]:
    """Descriptor 2 leads nowhere; a `sys.stderr` that wrote to it goes on with a copy."""
    try:
        kept = os.dup(_STDERR)
    except OSError:  # the caller closed it: there is nothing to keep quiet
        yield
        return
    with ExitStack() as stack:
        stack.callback(os.close, kept)
        if _descriptor(sys.stderr) == _STDERR:
            copy = os.fdopen(
                kept, "w", encoding=sys.stderr.encoding, errors="backslashreplace", closefd=False
            )
            stack.enter_context(redirect_stderr(copy))
        os.dup2(nowhere.fileno(), _STDERR)
        stack.callback(os.dup2, kept, _STDERR)
        yield


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):  # a stream of a test, or a closed one
        return None
