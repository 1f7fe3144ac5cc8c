"""Objectives and goodput, on passes whose times are known."""

from types import SimpleNamespace

import pytest

from reroute_cli.measure.passes import Times
from reroute_cli.studies.profile_report import MEASURES, series


def _pass(ttft, gaps, requests=1, end=0.0):
    """A pass whose first token takes `ttft`, every further one its gap, and the return `end`."""
    e2e = ttft + sum(gaps) + end
    return Times(
        requests=requests,
        ttft=ttft,
        itl=tuple(gaps),
        tpot=(e2e - ttft) / len(gaps) if gaps else None,
        e2e=e2e,
        vision=0.0,
        prefill=ttft,
        decode=e2e - ttft if gaps else None,
        output_rate=requests * (1 + len(gaps)) / e2e,
        request_rate=requests / e2e,
    )


@pytest.mark.parametrize(
    ("slo", "met"),
    [
        ({"ttft": 0.2}, True),
        ({"ttft": 0.19}, False),
        ({"itl": 0.02}, True),
        ({"itl": 0.019}, False),
        ({"tpot": 0.02}, False),
        ({"tpot": 0.03}, True),
        ({"e2e": 0.26}, True),
        ({"ttft": 0.2, "itl": 0.02, "tpot": 0.03, "e2e": 0.26}, True),
        ({"ttft": 0.2, "e2e": 0.2}, False),
    ],
)
def test_a_request_meets_what_it_does_not_exceed(slo, met):
    """TTFT 0.2 s, gaps of 0.01 and 0.03 s, 0.02 s to return: ITL is the mean gap, TPOT has the return."""
    assert _pass(0.2, (0.01, 0.03), end=0.02).meets({name: most + 1e-9 for name, most in slo.items()}) is met


def test_one_slow_gap_spoils_no_mean():
    """A request with one long gap among many meets an objective on ITL: the p99 gate is what sees it."""
    assert _pass(0.1, [0.01] * 99 + [0.5]).meets({"itl": 0.02})


def test_what_has_no_gap_meets_no_objective_on_gaps():
    """One token alone: nothing to judge is not good."""
    assert not _pass(0.1, ()).meets({"itl": 1.0})
    assert _pass(0.1, ()).meets({"ttft": 0.1})


def test_goodput_is_good_requests_over_the_seconds_of_all_passes():
    """Two passes of two and one requests, two rounds: 3 of 3 in the first, 1 of 3 in the second."""
    fast, slow, single = _pass(0.2, (0.1,), 2), _pass(0.5, (0.1,), 2), _pass(0.1, (0.1,), 1)
    values = SimpleNamespace(slo={"ttft": 0.3}, times=[[fast, slow], [single, single]])
    assert MEASURES["goodput"](values) == [[pytest.approx(3 / 0.5), pytest.approx(1 / 0.8)]]


def test_goodput_of_nobody_is_nought_and_without_objectives_unknown():
    """Nothing that meets them is 0 requests a second; no objectives is a reason."""
    slow = _pass(0.5, (0.1,))
    assert MEASURES["goodput"](SimpleNamespace(slo={"ttft": 0.3}, times=[[slow]])) == [[0.0]]
    assert "--slo" in MEASURES["goodput"](SimpleNamespace(slo={}, times=[[slow]]))


def test_itl_is_every_gap_of_every_answer():
    """Of one pass, all gaps of its rounds one after the other; of a single token there are none."""
    times = [[_pass(0.2, (0.1, 0.3)), _pass(0.2, (0.2, 0.4))]]
    assert MEASURES["itl"](SimpleNamespace(times=times)) == [[0.1, 0.3, 0.2, 0.4]]
    assert "one new token" in MEASURES["itl"](SimpleNamespace(times=[[_pass(0.2, ())]]))


@pytest.mark.parametrize(
    ("n", "known"),
    [(9, []), (10, ["p90"]), (19, ["p90"]), (20, ["p90", "p95"]), (99, ["p90", "p95"]), (100, "all")],
)
def test_a_percentile_needs_values_behind_it(n, known):
    """p90 from 10 values on, p95 from 20, p99 from 100; null with the reason and the number below that."""
    found = series("itl", [[float(value) for value in range(1, n + 1)]])
    names = ["p90", "p95", "p99"]
    assert [name for name in names if getattr(found, name) is not None] == (
        names if known == "all" else known
    )
    for name in set(names) - set(names if known == "all" else known):
        assert found.reasons[name].startswith(f"{name} needs ")
        assert found.reasons[name].endswith(f": {n}")
    assert found.p50 == pytest.approx((n + 1) / 2)


def test_what_does_not_vary_by_chance_keeps_its_percentiles():
    """FLOPs of three items are a list and no sample: their p99 is as it was."""
    assert series("prefill_flops", [[1], [2], [3]], "measured").p99 == pytest.approx(2.98)
