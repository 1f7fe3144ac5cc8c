"""Gates on latencies of serving, and reports that older releases wrote; over reports made by hand."""

import json
from pathlib import Path

import pytest

from reroute_cli.console.errors import Failure, NotComparable, UsageError
from reroute_cli.console.study_options import MeasureOptions
from reroute_cli.records.comparison import Verdict
from reroute_cli.records.metrics import METRICS
from reroute_cli.records.reading import read_report
from reroute_cli.records.report import TOO_OLD
from reroute_cli.studies.compare import RegressionCheck, compare, prepare
from reroute_cli.studies.gates import all_gates, parse_gate
from tests.cli import reports

OLD = Path(__file__).resolve().parents[2] / "fixtures" / "reports" / "baseline.json"
OBJECTIVES = {"ttft": 0.2}


def _served(p99=0.5, slo=None):
    """A report whose routed arms know the ratio of p99 of ITL, and with objectives their goodput."""
    plain = reports.make()
    for arm in plain["arms"][1:]:
        ratio = arm["ratios"]["itl"] | {"value": p99, "low": p99 * 0.9, "high": p99 * 1.1}
        arm["percentile_ratios"] = {"itl": {"p99": ratio}}
    plain["protocol"]["slo"] = slo or {}
    for arm in plain["arms"] if slo else ():
        del arm["unknown"]["goodput"]
        arm["requests_met"] = 3
        reports.set_values(arm, "goodput", [[2.0, 2.5, 3.0]])
    return plain


def _judged(old, new, *gates):
    return compare(reports.build(old), reports.build(new), all_gates(gates))


def _row(found, arm, name):
    return next(row for row in found.rows if (row.arm, row.name) == (arm, name))


def test_the_ratio_of_a_percentile_is_gated():
    """From 0.50 to 0.62 is 24% worse: above 20%, within 30%; the dense arm has no such ratio."""
    old, new = _served(0.5), _served(0.62)
    failed = _judged(old, new, "itl.p99.ratio:20%")
    row = _row(failed, "nuwa-prune", "itl.p99.ratio")
    assert (row.verdict, row.baseline, row.current, row.unit) == (Verdict.REGRESSION, 0.5, 0.62, "×")
    assert _judged(old, new, "itl.p99.ratio:30%").passed
    assert {row.arm for row in failed.rows if row.stat == "p99.ratio"} == {"nuwa-prune", "nuwa-reroute"}


def test_the_ratio_travels_between_machines():
    """It was measured in one run, as that of the median was."""
    new = _served()
    new["environment"]["cpu"]["model"] = "another"
    assert _judged(_served(), new, "itl.p99.ratio:1%").passed
    with pytest.raises(NotComparable, match="one machine"):
        _judged(_served(), new, "itl.p50:1%")


def test_a_baseline_without_the_percentile_is_no_baseline_for_it():
    """A p99 that too few values stand behind can't be gated, and why is said."""
    with pytest.raises(NotComparable, match=r"itl\.p99 has no baseline.*too few values"):
        _judged(_served(), _served(), "itl.p99:10%")
    with pytest.raises(NotComparable, match=r"itl\.p99\.ratio has no baseline.*too few values"):
        _judged(reports.make(), _served(), "itl.p99.ratio:10%")


def test_a_percentile_that_is_gone_is_missing():
    """The baseline had the ratio of p99 and the current report has not: what was gated is not there."""
    found = _judged(_served(), reports.make(), "itl.p99.ratio:10%")
    row = _row(found, "nuwa-prune", "itl.p99.ratio")
    assert (row.verdict, found.passed) == (Verdict.MISSING, False)
    assert "too few values" in row.reason


@pytest.mark.parametrize("text", ["kv_end.p99.ratio:1%", "output_rate.p90.ratio:1%", "goodput.p99.ratio:1%"])
def test_only_latencies_have_ratios_of_percentiles(text):
    """Of all else the ratio is one number."""
    with pytest.raises(UsageError, match="ttft, itl, tpot, e2e"):
        parse_gate(text)


def test_goodput_is_gated_under_the_same_objectives_alone():
    """Fewer good requests a second fail; other objectives, or none, are another question: exit 5."""
    old, less = _served(slo=OBJECTIVES), _served(slo=OBJECTIVES)
    for arm in less["arms"]:
        reports.scale(arm, "goodput", 0.5)
    assert not _judged(old, less, "goodput:10%").passed
    for slo in ({"ttft": 0.3}, {"ttft": 0.2, "e2e": 1.0}):
        with pytest.raises(NotComparable, match=r"--slo was ttft:0\.2s, now ttft:0\."):
            _judged(old, _served(slo=slo), "goodput:10%")
    with pytest.raises(NotComparable, match="now none"):
        _judged(old, reports.make(), "goodput:10%")


def test_goodput_that_nobody_asked_for_again_is_no_loss():
    """Without its gate a run without objectives passes beside a baseline that had some."""
    found = _judged(_served(slo=OBJECTIVES), _served())
    assert found.passed
    assert _row(found, "dense", "goodput.p50").verdict is Verdict.NOT_GATED


def test_other_objectives_and_other_batch_sizes_are_refused_before_anything_is_measured(tmp_path):
    """The baseline's work is known from its file."""
    path = reports.save(_served(slo=OBJECTIVES), tmp_path / "baseline.json")
    check = prepare(path, ["goodput:10%"], strict=False)
    assert isinstance(check, RegressionCheck)
    check.expect(MeasureOptions(slo=OBJECTIVES), 0)
    with pytest.raises(NotComparable, match="--slo"):
        check.expect(MeasureOptions(), 0)
    with pytest.raises(NotComparable, match="--batch-size was 1, now 2"):
        check.expect(MeasureOptions(slo=OBJECTIVES, batch_size=2), 0)


def test_a_report_of_an_older_release_is_read_as_not_knowing_what_came_later(tmp_path):
    """One written before ITL was measured: unknown with the reason, all else as it stands, and a baseline."""
    plain = json.loads(OLD.read_text())
    assert "itl" not in plain["arms"][0]["metrics"] | plain["arms"][0]["unknown"]
    report = read_report(OLD)
    later = {name for name, metric in METRICS.items() if metric.later}
    for arm, before in zip(report.arms, plain["arms"], strict=True):
        assert {name for name, reason in arm.unknown.items() if reason == TOO_OLD} == later
        assert arm.metrics["ttft"].p99 == before["metrics"]["ttft"]["p99"]
        assert arm.metrics["ttft"].outliers is None
    assert compare(report, report, all_gates(["ttft.p99:1%"])).passed


def test_a_report_that_lacks_an_older_metric_is_still_none(tmp_path):
    """Only what came later may be absent."""
    plain = json.loads(OLD.read_text())
    del plain["arms"][0]["metrics"]["tpot"]
    path = tmp_path / "x.json"
    path.write_text(json.dumps(plain))
    with pytest.raises(Failure, match=r"arms\.0: each of .*'tpot'"):
        read_report(path)
