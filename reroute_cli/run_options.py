"""Options of commands that measure many items under several schedules, each spelled once.

What every command shares is in options.py.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from reroute_cli.console.errors import UsageError
from reroute_cli.options import within

_INPUT, _SCHEDULE, _RUN, _OUTPUT = "Input", "Schedule", "Run", "Output"


_Format = TypeVar("_Format", bound=StrEnum)


def shown_format(typed: _Format, *, json: bool) -> _Format:
    """The format that --format and --json ask for together; raises UsageError where they ask for two."""
    if json and typed.value not in ("text", "json"):
        raise UsageError(f"--json and --format {typed} ask for two things on stdout: give one of them")
    return type(typed)("json") if json else typed


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
        help="Several schedules in one run, at one --ratio or --budget: METHOD[@LAYER+LAYER][:ACTION], "
        "separated by commas; without an action both.",
        show_default=False,
        rich_help_panel=_SCHEDULE,
    ),
]
Question = Annotated[
    str | None,
    typer.Option(
        "-Q",
        "--question",
        metavar="QUESTION",
        help="The question about every named picture. Until the next release -q QUESTION says it too.",
        show_default=False,
        rich_help_panel=_INPUT,
    ),
]
_FORMS = (
    'Items as JSON lines or one JSON array: "image" or "images" and a "question", or a chat as "messages" '
    '(Hugging Face, OpenAI) or "conversations" (LLaVA). Images are paths relative to the file, '
    "file:// or data: URIs."
)
Manifest = Annotated[
    Path | None,
    typer.Option(
        "--manifest",
        metavar="FILE",
        help=f"{_FORMS} An id is optional.",
        show_default=False,
        rich_help_panel=_INPUT,
    ),
]
BatchFolder = Annotated[
    Path | None,
    typer.Argument(
        metavar="FOLDER",
        help="A folder of pictures, with all folders in it.",
        show_default=False,
    ),
]
BatchManifest = Annotated[
    Path | None,
    typer.Option(
        "--manifest",
        metavar="FILE",
        help=f"{_FORMS} An id is optional, and what is true: an answer or a box; of a chat that ends with "
        "the assistant, its last turn, which the model is not shown.",
        show_default=False,
        rich_help_panel=_INPUT,
    ),
]
BatchLimit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="N",
        callback=within(1, 1_000_000_000),
        help="Items at most, spread evenly over all; by default all.",
        show_default=False,
        rich_help_panel=_INPUT,
    ),
]
Bench = Annotated[
    str | None,
    typer.Option(
        "--bench",
        metavar="NAME",
        help="A benchmark; 'reroute eval --list' says which there are. By default scenes, which comes with "
        "the package.",
        show_default=False,
        rich_help_panel=_INPUT,
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        "--split",
        metavar="SPLIT",
        help="A split of the benchmark; by default its first.",
        show_default=False,
        rich_help_panel=_INPUT,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="HUB_ID|FOLDER",
        help="Where a hub benchmark is read from, in place of its own dataset.",
        show_default=False,
        rich_help_panel=_INPUT,
    ),
]
TruthManifest = Annotated[
    Path | None,
    typer.Option(
        "--manifest",
        metavar="FILE",
        help=f'{_FORMS} Each with the true "answer" or "box" (pixels), or as a chat whose last turn, the '
        'assistant\'s, is the answer and is not shown; "id" and "kind" are optional.',
        show_default=False,
        rich_help_panel=_INPUT,
    ),
]
QuestionLimit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="N",
        callback=within(1, 1_000_000_000),
        help="Questions at most, spread evenly over all; by default all.",
        show_default=False,
        rich_help_panel=_INPUT,
    ),
]
LongestAnswer = Annotated[
    int | None,
    typer.Option(
        "--max-new-tokens",
        metavar="N",
        callback=within(1, 4096),
        help="Longest answer, 1 to 4096; by default the benchmark's, 64 for a manifest.",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]
KeptAnswers = Annotated[
    Path | None,
    typer.Option(
        "--records",
        metavar="FILE",
        help="Keep every answer in this file of JSON lines and ask nothing that it holds already, whichever "
        "command asked it: a run that was cut off goes on. Without it nothing is kept.",
        show_default=False,
        rich_help_panel=_OUTPUT,
    ),
]
BatchSize = Annotated[
    int,
    typer.Option(
        "--batch-size",
        metavar="N",
        callback=within(1, 4096),
        help="Items answered together; what does not fit the device is cut in two and tried again.",
        rich_help_panel=_RUN,
    ),
]
Records = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="Write the records to this file of JSON lines, and go on from what it holds already. Without it "
        "they go to stdout, and what was done is lost with them.",
        show_default=False,
        rich_help_panel=_OUTPUT,
    ),
]
Summary = Annotated[
    Path | None,
    typer.Option(
        "--summary",
        metavar="FILE",
        help="Write the summary as JSON to this file too.",
        show_default=False,
        rich_help_panel=_OUTPUT,
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
TraceFile = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="Draw the trace as FILE.png, as a page (FILE.html, extra reroute[report]), or write all of it "
        "as FILE.json.",
        show_default=False,
        rich_help_panel=_OUTPUT,
    ),
]
