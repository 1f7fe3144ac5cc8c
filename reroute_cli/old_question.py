"""`-q QUESTION`, as `batch` and `profile` had it until -q became quiet everywhere: read for one more release.

-q is followed by the question where none is given otherwise, since a folder or pictures without one make no
sense. Goes with the next release, this file and its two lines in app.py.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from reroute_cli.console.output import Sink

_NOTE = "note: '-q QUESTION' goes with the next release, where -q is quiet alone: write -Q or --question"


class OldQuestion(TyperCommand):
    """A command with -q/--quiet and -Q/--question that still takes a question behind -q, and says so."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; raises typer.TyperException for what makes no sense."""
        given, *_ = self.make_parser(ctx).parse_args(args=list(args))
        asked = "question" in given or "manifest" in given
        words = args if asked else _renamed(args)
        renamed = words != args
        rest = super().parse_args(ctx, words)
        if renamed:
            Sink(quiet=ctx.params["quiet"]).talk(_NOTE)
        return rest


def _renamed(args: list[str]) -> list[str]:
    """The arguments with -Q for each -q before the end of options that a word follows which is no option."""
    end = args.index("--") if "--" in args else len(args)
    return [
        "-Q" if word == "-q" and at + 1 < end and not args[at + 1].startswith("-") else word
        for at, word in enumerate(args)
    ]
