"""The way in: `reroute` and `python -m reroute_cli`.

Knows only Ctrl-C: it may come while everything else is still being imported, and whenever it comes the
program ends with one sentence and exit code 130.
"""

from __future__ import annotations

import signal
import sys

_INTERRUPTED = 130  # as errors.py has it, which can't be imported before the guard stands


def main() -> None:
    """Run the command line, its imports included, under the guard."""
    try:
        from reroute_cli.app import main as run

        run()
    except (KeyboardInterrupt, RuntimeError, ImportError) as error:
        if not _was_interrupted(error):
            raise
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one may not spoil the ending
        if sys.stderr is not None:
            sys.stderr.write("error: interrupted\n")
        raise SystemExit(_INTERRUPTED) from None


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is what happened, or what an import wrapped in an error of its own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__
    return error is not None


if __name__ == "__main__":
    main()
