"""`reroute compare`: two reports, a verdict for each gate, and an exit code that a CI job can trust."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reroute_cli import options
from reroute_cli.console.errors import Failure
from reroute_cli.console.output import Sink, check_writable, to_json, write_file
from reroute_cli.regression.check import accept_command, refuse_same_file, verdict

if TYPE_CHECKING:
    from reroute_cli.records.comparison import Comparison
    from reroute_cli.records.report import Report
    from reroute_cli.regression.gates import Gate


class Format(StrEnum):
    """What a comparison can be written as."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"
    GITHUB = "github-action-benchmark"
    GITHUB_BIGGER = "github-action-benchmark-bigger"
    BENCHER = "bencher"
    JUNIT = "junit"


Baseline = Annotated[
    Path, typer.Argument(metavar="BASELINE", help="A report that was accepted.", show_default=False)
]
Current = Annotated[Path, typer.Argument(metavar="CURRENT", help="The report to judge.", show_default=False)]
Written = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="Write the --format to this file, and the table to standard output.",
        show_default=False,
        rich_help_panel="Output",
    ),
]
AsFormat = Annotated[
    Format,
    typer.Option(
        "--format",
        help="github-action-benchmark and bencher hold CURRENT's numbers, all others the verdicts.",
        rich_help_panel="Output",
    ),
]


def compare(
    baseline: Baseline,
    current: Current,
    gate: options.Gates = None,
    strict: options.Strict = False,
    format: AsFormat = Format.TEXT,  # noqa: A002  the option's name
    output: Written = None,
    verbose: options.Verbose = False,
) -> None:
    """Judge a report by another one: exit 0 where every gate holds, 3 where one fails, 5 for other work."""
    from reroute_cli.records.files import read_report
    from reroute_cli.regression.gates import all_gates

    gates = all_gates(gate or [])
    if problem := check_writable(output):
        raise Failure(f"--output: {problem}")
    refuse_same_file(output, baseline, "BASELINE")
    refuse_same_file(output, current, "CURRENT")
    old, new = read_report(baseline), read_report(current)
    found = _compared((baseline, old), (current, new), gates, strict)
    with verdict(found):
        _show(found, new, format, output, verbose)


def _compared(
    baseline: tuple[Path, Report], current: tuple[Path, Report], gates: list[Gate], strict: bool
) -> Comparison:
    from reroute_cli.regression.compare import compare as judge

    names = (str(baseline[0]), str(current[0]))
    accept = accept_command(baseline[0], current[0])
    return judge(baseline[1], current[1], gates, strict=strict, names=names, accept=accept)


def _show(found: Comparison, current: Report, form: Format, output: Path | None, verbose: bool) -> None:
    """What was asked for, to the file where there is one and the table to stdout, else to stdout."""
    from reroute_cli.views.registry import document
    from reroute_cli.views.write import terminal

    if output is not None:
        write_file(output, _exported(found, current, form, verbose))
    if output is None and form is not Format.TEXT:
        Sink().result(_exported(found, current, form, verbose))
        return
    Sink().table(*terminal.page(document(found, verbose=verbose)))


def _exported(found: Comparison, current: Report, form: Format, verbose: bool) -> str:
    from reroute_cli.views.registry import document
    from reroute_cli.views.write import ci, markdown, terminal

    about_both: dict[Format, Callable[[Comparison], str]] = {
        Format.TEXT: lambda comparison: terminal.text(document(comparison, verbose=verbose)),
        Format.JSON: lambda comparison: to_json(comparison.as_dict()) + "\n",
        Format.MARKDOWN: lambda comparison: markdown.markdown(document(comparison, verbose=verbose)),
        Format.JUNIT: ci.junit,
    }
    return about_both[form](found) if form in about_both else ci.NUMBERS[form](current)
