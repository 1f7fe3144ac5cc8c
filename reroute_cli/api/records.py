"""The library's functions of records that are there: compare, read, view. None needs a model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from reroute_cli.console import keywords as k
from reroute_cli.console.command_options import check_page_packages
from reroute_cli.console.errors import UsageError, plain_errors
from reroute_cli.console.output import to_line
from reroute_cli.records.base import Part
from reroute_cli.records.schema import kind_of

if TYPE_CHECKING:
    from reroute_cli.records.comparison import Comparison
    from reroute_cli.records.report import Report

ViewFormat = Literal[
    "text",
    "markdown",
    "csv",
    "json",
    "html",
    "junit",
    "github-action-benchmark",
    "github-action-benchmark-bigger",
    "bencher",
    "profile",
]
_FOR_ONE_KIND = {  # formats that only one kind of record has
    "junit": "comparison",
    "github-action-benchmark": "report",
    "github-action-benchmark-bigger": "report",
    "bencher": "report",
    "profile": "tune",
}
_MOST_ITEMS = 100  # of the gallery of a page, as of `reroute report`


@plain_errors()
def compare(
    baseline: k.Path | Report,
    current: k.Path | Report,
    *,
    gates: str | Iterable[str] = (),
    strict: bool = False,
) -> Comparison:
    """Judge a report by another one.

    Args:
        baseline: a report that was accepted, or its file's path.
        current: the report to judge, or its file's path.
        gates: what may be how much worse, as METRIC[.STAT]:LIMIT, such as "ttft.ratio:10%". FLOPs, bytes,
            token counts and answers are gated exactly where no gate gives them room.
        strict: whether better by more than a limit fails, too.

    Returns:
        A verdict for each gate, and `passed`: `reroute.comparison`.

    Raises:
        NotComparable: reports of different work, or a gate that the baseline has no number for.
        UsageError: a gate that makes no sense.
        Failure: a file that is no report.
    """
    from reroute_cli.records.reading import read_report
    from reroute_cli.studies.compare import accept_command
    from reroute_cli.studies.compare import compare as judge
    from reroute_cli.studies.gates import all_gates

    def report_of(side: k.Path | Report) -> Report:
        return read_report(Path(side)) if isinstance(side, str | os.PathLike) else side

    parsed = all_gates([gates] if isinstance(gates, str) else list(gates))
    before, after = report_of(baseline), report_of(current)
    old, new = (Path(one) if isinstance(one, str | os.PathLike) else None for one in (baseline, current))
    accept = None if old is None or new is None else accept_command(old, new)
    names = (None if old is None else str(old), None if new is None else str(new))
    return judge(before, after, parsed, strict=strict, names=names, accept=accept)


@plain_errors()
def read(source: k.Path | bytes) -> Any:
    """Read what a command or `view(record, "json")` wrote, whoever may have changed it since.

    Args:
        source: a file's path, or the file's bytes.

    Returns:
        The record; of JSON lines, and of a file whose name ends in .jsonl, the list of its records. Those
        that an earlier release wrote come as this one would have written them.

    Raises:
        Failure: what is no record, with the first thing that is wrong. At most 200 MiB are read.
    """
    from reroute_cli.records.reading import read_records

    return read_records(source if isinstance(source, bytes) else Path(source))


@plain_errors()
def view(
    record: Part | Sequence[Part],
    format: ViewFormat = "text",  # noqa: A002  as the option is called
    *,
    verbose: bool = False,
) -> str:
    """A record as text, in a format that the commands write.

    Args:
        record: any record; a list of answers is shown as one table, and a list of any records as one page.
        format: "text", "markdown" or "csv"; "json", which `read` takes (a list: JSON lines); "html", one
            self-contained page (extra reroute[report]); "junit" of a comparison;
            "github-action-benchmark", "github-action-benchmark-bigger" and "bencher" of a report; "profile"
            (YAML) of what `tune` gave.
        verbose: with everything that there is to say, in "text" and "markdown".

    Returns:
        The text, as a command with `--format` writes it.

    Raises:
        UsageError: a format that there is not, or not of this record.
        Failure: packages that a page needs are not installed, or nothing that a profile can hold was found.
    """
    from reroute_cli.views.answer import Answers, answers_document
    from reroute_cli.views.emit import shown, written
    from reroute_cli.views.write.inputs import Input, sections_of

    several = not isinstance(record, Part)
    records: list[Any] = list(record) if isinstance(record, Sequence) else [record]
    kinds = [kind_of(one.schema_) for one in records]
    if not records or format not in get_args(ViewFormat):
        named = "a record" if not records else f"one of {', '.join(get_args(ViewFormat))}"
        raise UsageError(f"there is nothing to show as '{format}': give {named}")
    if (only := _FOR_ONE_KIND.get(format)) and (several or kinds != [only]):
        raise UsageError(f"'{format}' is a format of reroute.{only} alone: give one of these")
    if format == "profile":
        from reroute_cli.studies.tune.report import profile_text

        return profile_text(records[0])
    if several and format == "json":
        return "".join(f"{to_line(one.as_dict())}\n" for one in records)
    answers = Answers([one for one, kind in zip(records, kinds, strict=True) if kind == "answer"])
    if format == "html":
        from reroute_cli.data.items import image_folders
        from reroute_cli.views.write.html import page_of

        check_page_packages()
        others = [one for one, kind in zip(records, kinds, strict=True) if kind != "answer"]
        inputs = [Input(Path(kind_of(one.schema_)), one) for one in others]
        inputs += [Input(Path("answers"), answers)] if answers.records else []
        return page_of(sections_of(inputs), _MOST_ITEMS, image_folders()).html
    if not several:
        return written(records[0], format, verbose=verbose)
    if len(answers.records) < len(records):
        raise UsageError(f"several records make one '{format}' where all are answers: give each alone")
    return shown(answers_document(answers), format)
