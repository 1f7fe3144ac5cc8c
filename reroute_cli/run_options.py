"""Options of commands that measure many items under several schedules, each spelled once.

What every command shares is in options.py.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from reroute_cli.options import within

_INPUT, _SCHEDULE, _RUN, _OUTPUT = "Input", "Schedule", "Run", "Output"


class FormatName(StrEnum):
    """What a report is written as on stdout."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"
    CSV = "csv"
    GITHUB = "github-action-benchmark"
    GITHUB_BIGGER = "github-action-benchmark-bigger"
    BENCHER = "bencher"


Arms = Annotated[
    str | None,
    typer.Option(
        "--arms",
        metavar="LIST",
        help="Several schedules in one run, at one --ratio or --budget: METHOD or METHOD:ACTION, separated "
        "by commas; without an action both.",
        show_default=False,
        rich_help_panel=_SCHEDULE,
    ),
]
Question = Annotated[
    str | None,
    typer.Option(
        "-q",
        "--question",
        metavar="QUESTION",
        help="The question about every named picture.",
        show_default=False,
        rich_help_panel=_INPUT,
    ),
]
Manifest = Annotated[
    Path | None,
    typer.Option(
        "--manifest",
        metavar="FILE",
        help='Pictures and questions as JSONL: {"image": ..., "question": ...}, perhaps with an id; pictures '
        "are relative to the file.",
        show_default=False,
        rich_help_panel=_INPUT,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="N",
        callback=within(1, 1_000_000),
        help="Items at most, spread evenly over all; by default 12, or every picture that is named.",
        show_default=False,
        rich_help_panel=_INPUT,
    ),
]
Warmup = Annotated[
    int,
    typer.Option(
        "--warmup",
        metavar="N",
        callback=within(0, 1000),
        help="Rounds over all items and arms before the timed ones.",
        rich_help_panel=_RUN,
    ),
]
Repeat = Annotated[
    int,
    typer.Option(
        "--repeat",
        metavar="N",
        callback=within(1, 1000),
        help="Timed rounds over all items and arms.",
        rich_help_panel=_RUN,
    ),
]
ForcedTokens = Annotated[
    int,
    typer.Option(
        "--max-new-tokens",
        metavar="N",
        callback=within(1, 4096),
        help="Tokens of every measured answer, and at most of those that are compared.",
        rich_help_panel=_RUN,
    ),
]
Format = Annotated[
    FormatName,
    typer.Option("--format", help="What stdout gets; --json is short for json.", rich_help_panel=_OUTPUT),
]
LongQuiet = Annotated[  # where -q is the question
    bool, typer.Option("--quiet", help="Only the result and errors.", rich_help_panel=_OUTPUT)
]
