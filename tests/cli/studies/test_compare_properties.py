"""What holds for any two reports: properties of the comparison, searched by hypothesis."""

from copy import deepcopy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from reroute_cli.records.comparison import Comparison, Verdict
from reroute_cli.records.metrics import LATENCIES, METRICS, Better, Kind, Level
from reroute_cli.records.report import PERCENTILES
from reroute_cli.studies.compare import compare
from reroute_cli.studies.gates import GATED, Gate, Stat, all_gates, parse_gate
from tests.cli import reports

KNOWN = [name for name in METRICS if name not in reports.UNKNOWN]
FEW = (Stat.MEAN, Stat.MIN, Stat.MAX, Stat.P50)  # what a few values of a time have
LIMITS = {"0%": 0.0, "5%": 0.05, "10%": 0.1, "50%": 0.5}

numbers = st.integers(1, 10**15)
seconds = st.floats(1e-6, 1e4)


@st.composite
def plain_reports(draw: st.DrawFn) -> dict[str, Any]:
    """A report with any values: integers for counts, floats for times, never zero."""
    plain = reports.make(items=("desk", "shelf"))
    for part in plain["arms"]:
        for name in part["metrics"]:
            rounds = 1 if METRICS[name].kind is Kind.EXACT else draw(st.integers(1, 3))
            kind = numbers if METRICS[name].unit in ("FLOPs", "bytes") else seconds
            values = [draw(st.lists(kind, min_size=rounds, max_size=rounds)) for _ in range(2)]
            reports.set_values(part, name, values)
        for ratio in part["ratios"].values():
            ratio["value"] = draw(st.floats(0.01, 10))
        for name in LATENCIES if part["ratios"] else ():
            tail = {one: part["ratios"][name] | {"value": draw(st.floats(0.01, 10))} for one in PERCENTILES}
            part["percentile_ratios"][name] = tail
    return plain


@st.composite
def gate_texts(draw: st.DrawFn) -> str:
    """A gate on something that the reports know."""
    name = draw(st.sampled_from(KNOWN))
    timed, run = METRICS[name].kind is Kind.TIMED, METRICS[name].level is Level.RUN
    stats = [*FEW, *(() if timed else (Stat.P90, Stat.P95, Stat.P99)), *(() if run else (Stat.RATIO,))]
    stats += [Stat(f"{one}.ratio") for one in PERCENTILES if name in LATENCIES]
    stat = draw(st.sampled_from(["", *(f".{stat}" for stat in stats)]))
    return f"{name}{stat}:{draw(st.sampled_from(list(LIMITS)))}"


def _judged(
    old: dict[str, Any], new: dict[str, Any], gates: list[str], *, strict: bool = False
) -> Comparison:
    return compare(reports.build(old), reports.build(new), all_gates(gates), strict=strict)


@settings(max_examples=40, deadline=None)
@given(plain_reports(), st.lists(gate_texts(), max_size=5))
def test_any_report_passes_against_itself(plain, gates):
    """Under any gates, strictly."""
    assert _judged(plain, deepcopy(plain), gates, strict=True).passed


@settings(max_examples=60, deadline=None)
@given(plain_reports(), gate_texts(), st.integers(0, 2), st.floats(0.001, 3))
def test_worse_than_the_limit_always_fails_and_is_named(plain, text, place, beyond):
    """Any gated number that is made worse beyond its limit fails the comparison under its own name."""
    gate = parse_gate(text)
    new, arm = _worsened(plain, gate, place, beyond)
    found = _judged(plain, new, [text])
    assert not found.passed
    assert (arm, gate.name) in [(row.arm, row.name) for row in found.failed]


def _worsened(
    plain: dict[str, Any], gate: Gate, place: int, beyond: float
) -> tuple[dict[str, Any], str | None]:
    """A copy in which one arm's gated number is worse than the limit by the share `beyond`."""
    new = deepcopy(plain)
    run = GATED[gate.metric].level is Level.RUN
    part = new["process"] if run else new["arms"][max(place, gate.is_ratio)]
    share = float(gate.limit.amount) + beyond
    lower = GATED[gate.metric].better is Better.LOWER
    factor = 1 + share if lower else max(0.0, 1 - share)
    if gate.stat is not None and gate.stat.percentile:
        part["percentile_ratios"][gate.metric][gate.stat.percentile]["value"] *= factor
    elif gate.is_ratio:
        part["ratios"][gate.metric]["value"] *= factor
    else:
        _scale_up(part, gate.metric, factor)
    return new, None if run else part["name"]


def _scale_up(part: dict[str, Any], metric: str, factor: float) -> None:
    """Multiply; whole numbers, which rounding may leave as they were, get one more."""
    values = part["metrics"][metric]["values"]
    whole = isinstance(values[0][0], int)
    grown = [[round(v * factor) + 1 if whole else v * factor for v in group] for group in values]
    reports.set_values(part, metric, grown)


@settings(max_examples=40, deadline=None)
@given(plain_reports(), plain_reports(), st.lists(gate_texts(), max_size=4), st.randoms())
def test_the_order_of_arms_is_irrelevant(old, new, gates, chance):
    """Routed arms may stand in any order on either side: the same gates fail, with the same numbers."""
    shuffled = deepcopy(new)
    chance.shuffle(routed := shuffled["arms"][1:])
    shuffled["arms"][1:] = routed
    assert _judged(old, new, gates).rows == _judged(old, shuffled, gates).rows


@settings(max_examples=40, deadline=None)
@given(plain_reports(), plain_reports(), st.lists(gate_texts(), max_size=4))
def test_strict_fails_at_least_what_fails_without(old, new, gates):
    """--strict adds wins to the failures, takes none away and changes no verdict."""
    loose, strict = _judged(old, new, gates), _judged(old, new, gates, strict=True)
    assert loose.rows == strict.rows
    added = [row for row in strict.failed if row not in loose.failed]
    assert {row.verdict for row in added} <= {Verdict.WIN}
    assert len(strict.failed) == len(loose.failed) + len(added)


@settings(max_examples=40, deadline=None)
@given(plain_reports(), plain_reports(), gate_texts())
def test_a_regression_seen_from_the_other_side_is_a_win(old, new, text):
    """At limit 0 the better and the worse of two statistics change places with the reports."""
    name = text.partition(":")[0]
    if "." not in name:
        return
    ahead, back = _judged(old, new, [f"{name}:0"]), _judged(new, old, [f"{name}:0"])
    turned = {Verdict.REGRESSION: Verdict.WIN, Verdict.WIN: Verdict.REGRESSION, Verdict.OK: Verdict.OK}
    pairs = [
        (one.verdict, other.verdict)
        for one, other in zip(ahead.rows, back.rows, strict=True)
        if one.name == name and one.limit is not None
    ]
    assert pairs
    assert all(turned[one] is other for one, other in pairs)
