"""Old spellings, read for one more release with a word on stderr. This file goes with the next release."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from reroute_cli.console.output import Sink

RENAMED = {"--cuts": "--layers", "--pictures": "--images"}


class OldSpellings(TyperCommand):
    """A command that still takes its options by their old names, and a question behind -q, and says so.

    -q is followed by the question where a command has -Q and none is given otherwise: a folder or images
    without a question make no sense.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; raises typer.TyperException for what makes no sense."""
        known = {name for parameter in self.params for name in parameter.opts}
        end = args.index("--") if "--" in args else len(args)
        words, notes = list(args), []
        for at, word in enumerate(args[:end]):
            old, sign, value = word.partition("=")
            new = RENAMED.get(old)
            if new in known and old not in known:
                words[at] = f"{new}{sign}{value}"
                notes.append(f"note: '{old}' goes with the next release: write {new}")
        if "-Q" in known and not {"question", "manifest"} & set(self._given(ctx, words)):
            for at, word in enumerate(words[:end]):
                if word == "-q" and at + 1 < end and not words[at + 1].startswith("-"):
                    words[at] = "-Q"
                    notes.append(
                        "note: '-q QUESTION' goes with the next release, where -q is quiet alone: "
                        "write -Q or --question"
                    )
        rest = super().parse_args(ctx, words)
        for note in dict.fromkeys(notes):
            Sink(quiet=ctx.params.get("quiet", False)).talk(note)
        return rest

    def _given(self, ctx: Any, words: list[str]) -> dict[str, Any]:
        """What is there of the arguments, by the names of the parameters."""
        return dict(self.make_parser(ctx).parse_args(args=list(words))[0])
