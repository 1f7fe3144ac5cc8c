"""The way in: `reroute` and `python -m reroute_cli`.

Knows Ctrl-C: it may come while everything else is still being imported, and whenever it comes the
program ends with one sentence and exit code 130. Knows too a framework that lacks a name which is asked for
before the error boundary stands, or by the boundary itself: one sentence and exit code 4.
"""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

_FAILURE, _INTERRUPTED = 4, 130  # as errors.py has them, which can't be imported before the guard stands


def main() -> None:
    """Run the command line, its imports included, under the guard."""
    try:
        from reroute_cli.app import main as run

        run()
    except (KeyboardInterrupt, RuntimeError, ImportError, AttributeError) as error:
        if not _was_interrupted(error):
            _leave_if_missing(error)
            raise
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one may not spoil the ending
        _leave("interrupted", _INTERRUPTED)


def _leave_if_missing(error: BaseException) -> None:
    from reroute_cli.missing import missing_name

    if sentence := missing_name(error):
        _leave(sentence, _FAILURE)


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
