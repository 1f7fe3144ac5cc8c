"""The comparison of two reports: a row for every metric of every arm, with a verdict where a gate looks.

`compare` is pure: reports and gates in, a `Comparison` out; how one number is judged is in gates.py. What
`--baseline FILE --gate ... --strict` of a command that measures gets wrong is found before it measures. Knows
no units and no torch; not who measures, nor how a verdict is shown.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reroute_cli.console.errors import NotComparable, Regression, UsageError
from reroute_cli.records.comparison import PRESENCE, ChangedAnswer, Comparison, Row, Side, Verdict
from reroute_cli.records.metrics import DENSE_ARM, GOODPUT, Kind, Level
from reroute_cli.records.report import ArmPart, Measured, Report
from reroute_cli.studies.comparable import (
    Pairing,
    check_machine,
    check_objectives,
    check_settings,
    check_workload,
    environment_differences,
    machine_differences,
    pair_items,
    some,
)
from reroute_cli.studies.gates import (
    ANSWERS,
    GATED,
    ComparedPart,
    Gate,
    Number,
    all_gates,
    judge,
    show,
    statistic,
    why_unknown,
    worst,
)
from reroute_cli.views.wording import different

if TYPE_CHECKING:
    from reroute_cli.console.output import Sink
    from reroute_cli.console.study_options import MeasureOptions

_EXACT_FIRST = sorted(GATED, key=lambda name: GATED[name].kind is not Kind.EXACT)


def check_gates(baseline: Report, gates: Iterable[Gate]) -> list[Gate]:
    """The gates that this baseline can hold.

    Raises NotComparable for a typed gate on what the baseline does not know, UsageError for a relative limit
    on a zero. A default gate on what no part of the baseline knows is left out.
    """
    held = []
    for gate in gates:
        arms = baseline.arms[1:] if gate.is_ratio else baseline.arms
        parts: Sequence[Measured] = [baseline.process] if gate.of.level is Level.RUN else arms
        if not parts:
            raise NotComparable(
                f"the gate {gate.name} needs a routed arm: the baseline has only the dense one"
            )
        if gate.metric == ANSWERS or _known_numbers(parts, gate):
            held.append(gate)
    return held


def _known_numbers(parts: Iterable[Measured], gate: Gate) -> list[Number]:
    """The numbers of these parts of the baseline that the gate compares with, as far as they are known."""
    known: list[Number] = []
    for part in parts:
        if gate.stat is None:
            series = part.metrics.get(gate.metric)
            items = [] if series is None else series.values
            numbers = [worst(values, gate.of.better) for values in items if values]
        else:
            number = statistic(part, gate.metric, gate.stat)
            numbers = [] if number is None else [number]
        if not numbers and gate.given:
            owner = f"the arm '{part.name}'" if isinstance(part, ArmPart) else "the run"
            why = why_unknown(part, gate.metric, gate.stat) or "it has no ratio to dense"
            raise NotComparable(f"the gate {gate.name} has no baseline: {owner}: {why}")
        known += numbers
    if gate.limit.relative and gate.limit.amount and known and not any(known):
        raise UsageError(
            f"--gate {gate.name}:{gate.limit.text}: the baseline has 0 everywhere, and a share of it "
            "is nothing: give an absolute limit"
        )
    return known


def compare(
    baseline: Report,
    current: Report,
    gates: Iterable[Gate],
    *,
    strict: bool = False,
    names: tuple[str | None, str | None] = (None, None),
    accept: str | None = None,
) -> Comparison:
    """One report judged by another one: a row for every metric of every arm, with a verdict where gated.

    Args:
        baseline: the report that was accepted.
        current: the report to judge.
        gates: what may be how much worse; see `all_gates`.
        strict: whether better by more than the limit fails as well, so that the baseline stays up to date.
        names: the two files, to show.
        accept: the command that makes the current report the baseline, to show.

    Raises:
        NotComparable: the reports are of different work, or the baseline lacks what is gated.
        UsageError: a relative limit on a zero.
    """
    asked = list(gates)
    held = check_gates(baseline, asked)
    pairing = pair_items(baseline, current)
    check_workload(baseline, current, pairing)
    for gate in held:
        if gate.needs_same_machine:
            check_machine(baseline, current, gate.name)
        if gate.metric == GOODPUT:
            check_objectives(baseline, current.protocol.slo)
    # what may have changed answers by itself, and what a reader may take to be gated and is not
    sides = (("baseline", baseline), ("current", current))
    notes = list(different((name, report.generation) for name, report in sides))
    was, now = ({arm.name: arm for arm in report.arms} for report in (baseline, current))
    if added := [name for name in now if name not in was]:
        notes.append(f"not gated, because the baseline lacks them: {', '.join(added)}")
    if unknown := [gate.name for gate in asked if gate not in held]:
        notes.append(f"not gated, because the baseline does not know them: {', '.join(unknown)}")
    found = Comparison(
        passed=True,
        strict=strict,
        baseline=_side(baseline, names[0]),
        current=_side(current, names[1]),
        same_machine=not machine_differences(baseline, current),
        rows=list(_rows(baseline, current, held, pairing)),
        answers=[
            ChangedAnswer(arm=old.name, item=before.id, baseline=before.answer, current=after.answer)
            for old, new in ((old, now[old.name]) for old in baseline.arms if old.name in now)
            for before, after in ((old.items[i], new.items[j]) for i, j in pairing.pairs)
            if before.answer != after.answer
        ],
        environment=environment_differences(baseline, current),
        notes=notes,
        accept=accept,
    )
    return found.model_copy(update={"passed": not found.failed})


def _side(report: Report, path: str | None) -> Side:
    commit = report.environment.get("commit")
    return Side(path=path, created=report.created, commit=commit if isinstance(commit, str) else None)


def _rows(baseline: Report, current: Report, gates: Sequence[Gate], pairing: Pairing) -> Iterator[Row]:
    """Arms in the baseline's order, then the whole run; what is missing stands where it was."""
    if pairing.lost:
        total = len(baseline.workload.items)
        yield _lost("items", None, total, total - len(pairing.lost), some(pairing.lost))
    arms = {arm.name: arm for arm in current.arms}
    same_machine = not machine_differences(baseline, current)
    for old in baseline.arms:
        new = arms.get(old.name)
        if new is None:
            yield _lost("arm", old.name, None, None, "the current report has no such arm")
            continue
        pair = ComparedPart(old.name, old, new, pairing.pairs, pairing.ids, bool(pairing.lost), same_machine)
        yield from _pair_rows(pair, gates, Level.ARM)
    run = ComparedPart(None, baseline.process, current.process, [(0, 0)], ["the run"], False, same_machine)
    yield from _pair_rows(run, gates, Level.RUN)


def _pair_rows(pair: ComparedPart, gates: Sequence[Gate], level: Level) -> Iterator[Row]:
    """A row a gate, and one for each metric whose own number nothing gates."""
    for name in _EXACT_FIRST:
        if GATED[name].level is not level:
            continue
        own = [gate for gate in gates if gate.metric == name]
        if pair.arm == DENSE_ARM:  # it has no ratio to itself
            own = [gate for gate in own if not gate.is_ratio]
        yield from (judge(pair, gate) for gate in own)
        if name != ANSWERS and all(gate.is_ratio for gate in own):
            yield show(pair, name)


def _lost(what: str, arm: str | None, before: int | None, after: int | None, reason: str) -> Row:
    return Row(
        arm=arm,
        metric=what,
        stat=PRESENCE,
        unit=what,
        better="higher",
        limit="0",
        default=True,
        baseline=before,
        current=after,
        change=None,
        items=None,
        verdict=Verdict.MISSING,
        reason=reason,
    )


@dataclass(frozen=True)
class RegressionCheck:
    """A baseline that was read and gates that it can hold."""

    path: Path
    baseline: Report
    gates: tuple[Gate, ...]
    strict: bool

    def expect(self, measure: MeasureOptions, seed: int) -> None:
        """Refuse, before it is made, a run that is no work of the baseline's (raises NotComparable)."""
        check_settings(self.baseline, measure.max_new_tokens, measure.batch_size, seed)
        if any(gate.metric == GOODPUT for gate in self.gates):
            check_objectives(self.baseline, measure.slo or {})

    def judge(self, current: Report, output: Path | None = None) -> Comparison:
        """Compare what was measured with the baseline (raises NotComparable). output: where it is."""
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
        from reroute_cli.views.emit import document
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
