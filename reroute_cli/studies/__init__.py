"""What is done with a model and many questions: profile, evaluate, sweep, tune, trace; plan; compare.

A study is one function: values in, a record out. It prints nothing; `progress` is told how far it is.
"""

from __future__ import annotations

from typing import Protocol

from reroute_cli.console.output import Progress


class StudyProgress(Protocol):
    """Whoever is told how far a study is; the command line's bar is one."""

    def expect(self, steps: int) -> None:
        """So many steps are to be done."""

    def tell(self, doing: str) -> None:
        """What is going on now, in a few words."""

    def done(self) -> None:
        """One more step is done."""


SILENT: StudyProgress = Progress(None)
