"""`--baseline FILE --gate ... --strict` of a command that measures: what can be wrong is found before.

Knows report files, gates and how they are judged; not who measures, nor how a verdict is shown.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reroute_cli.console.errors import NotComparable, Regression, UsageError
from reroute_cli.studies.compare.gates import Gate, all_gates

if TYPE_CHECKING:
    from reroute_cli.console.output import Sink
    from reroute_cli.records.comparison import Comparison
    from reroute_cli.records.report import Report


@dataclass(frozen=True)
class RegressionCheck:
    """A baseline that was read and gates that it can hold."""

    path: Path
    baseline: Report
    gates: tuple[Gate, ...]
    strict: bool

    def expect(self, new_tokens: int, seed: int) -> None:
        """Refuse, before it is made, a run that is no work of the baseline's (raises NotComparable)."""
        from reroute_cli.studies.compare.comparable import check_settings

        check_settings(self.baseline, new_tokens, seed)

    def judge(self, current: Report, output: Path | None = None) -> Comparison:
        """Compare what was measured with the baseline (raises NotComparable). output: where it is."""
        from reroute_cli.studies.compare.compare import compare

        names = (str(self.path), None if output is None else str(output))
        accept = accept_command(self.path, output)
        return compare(self.baseline, current, self.gates, strict=self.strict, names=names, accept=accept)


def prepare(
    baseline: Path | None, gates: list[str], strict: bool, output: Path | None = None
) -> RegressionCheck | None:
    """Read and check everything before the measuring starts; None where no comparison is asked for.

    Raises UsageError for gates without a baseline, bad gates and an output that would replace the baseline,
    NotComparable where there is no such baseline or it can't hold a gate, Failure where it is no report.
    """
    if baseline is None:
        if gates or strict:
            given = "--gate" if gates else "--strict"
            raise UsageError(f"{given} needs something to compare with: add --baseline FILE")
        return None
    parsed = all_gates(gates)
    refuse_same_file(output, baseline, "--baseline")
    from reroute_cli.records.reading import read_report
    from reroute_cli.studies.compare.compare import check_gates

    report = read_report(baseline, absent=NotComparable)
    return RegressionCheck(baseline, report, tuple(check_gates(report, parsed)), strict)


@contextmanager
def verdict(found: Comparison) -> Iterator[None]:
    """Leave with the verdict after the block, even where whoever read it has gone (raises Regression)."""
    from reroute_cli.views.comparison import summary

    try:
        yield
    except BrokenPipeError:
        if found.passed:
            raise
    if not found.passed:
        raise Regression(summary(found))


@contextmanager
def judged(sink: Sink, check: RegressionCheck | None, report: Report, output: Path | None) -> Iterator[None]:
    """After the block, which shows the report: the comparison on stderr, and its verdict."""
    gone: BrokenPipeError | None = None
    try:
        yield
    except BrokenPipeError as error:
        gone = error
    if check is not None:
        from reroute_cli.views.registry import document
        from reroute_cli.views.write import terminal

        found = check.judge(report, output)
        with verdict(found):
            sink.card(*terminal.page(document(found, verbose=sink.verbose)))
    if gone is not None:
        raise gone


def refuse_same_file(output: Path | None, source: Path, label: str) -> None:
    """Raise UsageError where the output would replace what it is compared with."""
    if output is None:
        return
    same = output.samefile(source) if output.exists() and source.exists() else output == source
    if same:
        raise UsageError(f"--output '{output}' would replace {label}: name another file")


def accept_command(baseline: Path, current: Path | None) -> str:
    """What to type to make the new numbers the baseline."""
    if current is None:
        return f"measure again with -o {shlex.quote(str(baseline))} in place of --baseline"
    return shlex.join(["cp", "--", str(current), str(baseline)])
