"""The comparison of two reports: a row for every metric of every arm, with a verdict where a gate looks.

Pure: reports and gates in, a `Comparison` out. Knows no files, no units and no torch; how one number is
judged is in verdicts.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from reroute_cli.console.errors import NotComparable, UsageError
from reroute_cli.records.comparison import PRESENCE, ChangedAnswer, Comparison, Row, Side, Verdict
from reroute_cli.records.metrics import DENSE_ARM, Kind, Level
from reroute_cli.records.report import ArmPart, Measured, Report
from reroute_cli.studies.compare.comparable import (
    Pairing,
    check_machine,
    check_workload,
    environment_differences,
    machine_differences,
    pair_items,
    some,
)
from reroute_cli.studies.compare.gates import ANSWERS, GATED, Gate, Stat
from reroute_cli.studies.compare.verdicts import ComparedPart, Number, judge, show, statistic, worst
from reroute_cli.views.wording import different

_EXACT_FIRST = sorted(GATED, key=lambda name: GATED[name].kind is not Kind.EXACT)


def check_gates(baseline: Report, gates: Iterable[Gate]) -> list[Gate]:
    """The gates that this baseline can hold.

    Raises NotComparable for a typed gate on what the baseline does not know, UsageError for a relative limit
    on a zero. A default gate on what no part of the baseline knows is left out.
    """
    held = []
    for gate in gates:
        arms = baseline.arms[1:] if gate.stat is Stat.RATIO else baseline.arms
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
            why = part.unknown.get(gate.metric, "it has no ratio to dense")
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
            own = [gate for gate in own if gate.stat is not Stat.RATIO]
        yield from (judge(pair, gate) for gate in own)
        if name != ANSWERS and all(gate.stat is Stat.RATIO for gate in own):
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
