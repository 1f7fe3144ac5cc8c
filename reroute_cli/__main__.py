"""The way in: `reroute` and `python -m reroute_cli`.

Knows Ctrl-C: it may come while everything else is still being imported, or where Python drops it, and
whenever it comes the program ends with one sentence and exit code 130. Knows too a framework that lacks a
name which is asked for before the error boundary stands, or by the boundary itself: one sentence and exit
code 4.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_FAILURE, _INTERRUPTED = 4, 130  # as errors.py has them, which can't be imported before the guard stands


def main() -> None:
    """Run the command line, its imports included, under the guard."""
    interrupted = threading.Event()
    atexit.register(_end_as_interrupted, interrupted)  # the first to be registered is the last to run
    sys.unraisablehook = _interrupt_again
    try:
        from reroute_cli.app import main as run

        run()
    except SystemExit as ending:
        if ending.code == _INTERRUPTED:
            interrupted.set()
        raise
    except (KeyboardInterrupt, RuntimeError, ImportError, AttributeError) as error:
        if _was_interrupted(error):
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one may not spoil the ending
            interrupted.set()
            _leave("interrupted", _INTERRUPTED)
        from reroute_cli.console.missing import missing_name

        if sentence := missing_name(error):
            _leave(sentence, _FAILURE)
        raise


def _interrupt_again(dropped: UnraisableHookArgs) -> None:
    """Send Ctrl-C once more, a moment later, where Python could only drop it: in a destructor or a callback.

    From another thread, since here it would be dropped again.
    """
    if isinstance(dropped.exc_value, KeyboardInterrupt):
        again = (threading.main_thread().ident, signal.SIGINT)
        threading.Timer(0.01, signal.pthread_kill, again).start()
    else:
        sys.__unraisablehook__(dropped)


def _end_as_interrupted(interrupted: threading.Event) -> None:
    """Keep the exit code: where Ctrl-C passed through an `exec`, Python would end by the signal instead."""
    if interrupted.is_set():
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        os._exit(_INTERRUPTED)


def _leave(sentence: str, code: int) -> NoReturn:
    if sys.stderr is not None:
        sys.stderr.write(f"error: {sentence}\n")
    raise SystemExit(code) from None


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is what happened, or what an import wrapped in an error of its own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__
    return error is not None


if __name__ == "__main__":
    main()
