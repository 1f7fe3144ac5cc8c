"""The grammar of --gate: what each form means, and one sentence for what means nothing."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reroute_cli.console.errors import UsageError
from reroute_cli.studies.gates import GATED, Stat, all_gates, default_gates, parse_gate

DEFAULTS = {
    "visual_tokens_per_layer",
    "vision_flops",
    "prefill_flops",
    "scoring_flops",
    "decode_flops",
    "kv_prefill",
    "kv_end",
    "agreement",
    "weights",
    "answers",
}


@pytest.mark.parametrize(
    ("text", "metric", "stat", "amount", "relative"),
    [
        ("ttft:10%", "ttft", Stat.P50, Fraction(1, 10), True),
        ("ttft.p90:5ms", "ttft", Stat.P90, Fraction(5, 1000), False),
        ("ttft.mean:0.01s", "ttft", Stat.MEAN, Fraction(1, 100), False),
        ("ttft.min:250us", "ttft", Stat.MIN, Fraction(1, 4000), False),
        ("ttft.max:250µs", "ttft", Stat.MAX, Fraction(1, 4000), False),
        ("ttft.ratio:10%", "ttft", Stat.RATIO, Fraction(1, 10), True),
        ("ttft.ratio:0.05", "ttft", Stat.RATIO, Fraction(1, 20), False),
        ("itl.p99.ratio:20%", "itl", Stat.P99_RATIO, Fraction(1, 5), True),
        ("e2e.p90.ratio:0.1", "e2e", Stat.P90_RATIO, Fraction(1, 10), False),
        ("itl.p99:2ms", "itl", Stat.P99, Fraction(2, 1000), False),
        ("request_rate:0.5requests/s", "request_rate", Stat.P50, Fraction(1, 2), False),
        ("goodput.mean:10%", "goodput", Stat.MEAN, Fraction(1, 10), True),
        ("e2e:2", "e2e", Stat.P50, Fraction(2), False),
        ("kv_end:64MiB", "kv_end", None, Fraction(64 * 2**20), False),
        ("kv_end:64 KiB", "kv_end", None, Fraction(64 * 2**10), False),
        ("kv_end:1GiB", "kv_end", None, Fraction(2**30), False),
        ("kv_end:7B", "kv_end", None, Fraction(7), False),
        ("kv_end:0%", "kv_end", None, Fraction(0), True),
        ("prefill_flops.p99:3GFLOPs", "prefill_flops", Stat.P99, Fraction(3 * 10**9), False),
        ("prefill_flops:1e9", "prefill_flops", None, Fraction(10**9), False),
        ("prefill_flops:.5TFLOPs", "prefill_flops", None, Fraction(5 * 10**11), False),
        ("visual_tokens:1.5tokens", "visual_tokens_per_layer", None, Fraction(3, 2), False),  # the older name
        ("visual_tokens_per_layer:1.5tokens", "visual_tokens_per_layer", None, Fraction(3, 2), False),
        ("output_rate.p95:3tokens/s", "output_rate", Stat.P95, Fraction(3), False),
        ("energy:500mJ", "energy", Stat.P50, Fraction(1, 2), False),
        ("agreement.mean:0.1", "agreement", Stat.MEAN, Fraction(1, 10), False),
        ("answers:2", "answers", None, Fraction(2), False),
        ("answers:0%", "answers", None, Fraction(0), True),
        ("weights:0", "weights", None, Fraction(0), False),
        (" ttft.p50 : 10% ".replace(" ", ""), "ttft", Stat.P50, Fraction(1, 10), True),
        ("ttft:-0", "ttft", Stat.P50, Fraction(0), False),
    ],
)
def test_a_gate_means_what_it_says(text, metric, stat, amount, relative):
    """Metric, statistic and limit are read exactly, units scaled to the base unit."""
    gate = parse_gate(text)
    assert (gate.metric, gate.stat, gate.limit.amount, gate.limit.relative) == (
        metric,
        stat,
        amount,
        relative,
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ttft", ("has no limit", "METRIC[.STAT]:LIMIT")),
        ("", ("has no limit",)),
        (":10%", ("no metric ''", "ttft", "answers")),
        ("tttf:10%", ("no metric 'tttf'", "did you mean 'ttft'")),
        ("speed:10%", ("no metric 'speed'", "kv_end")),
        ("ttft.p42:10%", ("no statistic 'p42'", "mean, min, max, p50, p90, p95, p99, ratio")),
        ("ttft.:10%", ("no statistic ''",)),
        ("ttft:", ("'' is no limit", "10%", "5ms")),
        ("ttft:fast", ("'fast' is no limit",)),
        ("ttft:-5%", ("-5% is negative",)),
        ("ttft:-0.01s", ("-0.01s is negative",)),
        ("ttft:5MiB", ("'5MiB' is no limit here", "5ms")),
        ("kv_end:5MB", ("'5MB' is no limit here", "5MiB")),
        ("kv_end:5ms", ("'5ms' is no limit here",)),
        ("ttft.ratio:5ms", ("'5ms' is no limit here", "10%")),
        ("ttft:nan", ("'nan' is no limit",)),
        ("ttft:inf", ("'inf' is no limit",)),
        ("ttft:1e999", ("'1e999' is no limit",)),
        ("ttft:١%", ("is no limit",)),
        ("ttft:10%%", ("is no limit",)),
        ("answers:10%", ("answers counts from zero",)),
        ("answers.mean:1", ("answers is one count",)),
        ("weights.ratio:10%", ("weights", "no ratio")),
        ("host_peak_rss.ratio:10%", ("host_peak_rss", "no ratio")),
    ],
)
def test_what_means_nothing_is_a_usage_error(text, words):
    """The sentence names what was given and what is allowed."""
    with pytest.raises(UsageError) as caught:
        parse_gate(text)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@given(st.text() | st.from_regex(r"[a-z_]{1,8}(\.[a-z0-9]{1,4})?:-?[0-9.e]{1,9}[a-zA-Z%/]{0,6}"))
def test_any_text_is_a_gate_or_a_usage_error(text):
    """Nothing that can be typed ends in another exception, nor in a negative limit."""
    try:
        gate = parse_gate(text)
    except UsageError:
        return
    assert gate.metric in GATED
    assert gate.limit.amount >= 0


def test_the_defaults_are_the_exact_metrics_and_the_answers():
    """Without a --gate all that no machine may change is gated, value by value, at 0."""
    gates = default_gates()
    assert {gate.metric for gate in gates} == DEFAULTS
    assert all(gate.stat is None and gate.limit.amount == 0 and not gate.given for gate in gates)


def test_a_typed_gate_takes_the_place_of_its_default():
    """Who gives kv_end room means it: its exact gate is gone, all others stand, none stands twice."""
    gates = all_gates(["ttft.ratio:10%", "kv_end.max:5%", "ttft.ratio:10%"])
    standing = [gate for gate in default_gates() if gate.metric != "kv_end"]
    assert gates[:-2] == standing
    assert [gate.name for gate in gates[-2:]] == ["ttft.ratio", "kv_end.max"]


def test_a_gated_ratio_leaves_the_number_itself_gated():
    """The ratio of prefill FLOPs to dense is another number than the FLOPs."""
    gates = all_gates(["prefill_flops.ratio:10%"])
    assert gates[:-1] == default_gates()


@pytest.mark.parametrize(
    ("limit", "baseline", "room"),
    [("10%", 200.0, 20), ("10%", -200.0, 20), ("29%", 100, 29), ("7", 200.0, 7), ("0", 5, 0)],
)
def test_the_room_that_a_limit_leaves(limit, baseline, room):
    """A share of the baseline's size, exactly (0.29 × 100 is 29, which floats miss), or the amount itself."""
    assert parse_gate(f"visual_tokens_per_layer:{limit}").limit.allowed(baseline) == room


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("ttft:10%", True),
        ("ttft.p90:5ms", True),
        ("host_peak_rss:10%", True),
        ("ttft.ratio:10%", False),
        ("kv_end:10%", False),
        ("prefill_flops.mean:10%", False),
        ("answers:1", False),
    ],
)
def test_only_absolute_times_and_memory_need_one_machine(text, needs):
    """Ratios and exact metrics travel between machines."""
    assert parse_gate(text).needs_same_machine is needs
