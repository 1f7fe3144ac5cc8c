"""Two reports compared: verdicts worked out by hand, and what is missing."""

from copy import deepcopy
from typing import Any

import pytest

from reroute_cli.console.errors import NotComparable, UsageError
from reroute_cli.records.comparison import Comparison, Row, Verdict
from reroute_cli.studies.compare import compare
from reroute_cli.studies.gates import all_gates, relative_change
from tests.cli import reports

OK, WORSE, WIN, GONE, FREE = (
    Verdict.OK,
    Verdict.REGRESSION,
    Verdict.WIN,
    Verdict.MISSING,
    Verdict.NOT_GATED,
)
PRUNE = "nuwa-prune"


def judged(old: dict[str, Any], new: dict[str, Any], *gates: str, strict: bool = False) -> Comparison:
    """Two plain reports compared under the default gates and these."""
    return compare(reports.build(old), reports.build(new), all_gates(gates), strict=strict)


def row(found: Comparison, name: str, arm: str | None = PRUNE, *, gated: bool = True) -> Row:
    """The one row of this name."""
    rows = [part for part in found.rows if (part.name, part.arm) == (name, arm)]
    (only,) = [part for part in rows if gated is (part.limit is not None)]
    return only


def failed(found: Comparison) -> list[tuple[str | None, str]]:
    """Arm and name of what failed."""
    return [(part.arm, part.name) for part in found.failed]


def moved(metric: str, before: list[list[float]], after: list[list[float]], gate: str) -> Row:
    """The row of a gate on one arm whose metric went from these values to those."""
    old = reports.make(items=[f"item {i}" for i in range(len(before))])
    new = deepcopy(old)
    reports.set_values(reports.arm(old, PRUNE), metric, before)
    reports.set_values(reports.arm(new, PRUNE), metric, after)
    name = gate.partition(":")[0]
    rows = [part for part in judged(old, new, gate).rows if part.arm == PRUNE and not part.default]
    (only,) = [part for part in rows if part.limit is not None and part.name.startswith(name)]
    return only


def test_a_report_passes_against_itself():
    """Nothing changed, so every gate holds, strictly too."""
    found = judged(reports.make(), reports.make(), "ttft.ratio:0%", "e2e:0%", strict=True)
    assert found.passed
    assert {part.verdict for part in found.rows} == {OK, FREE}
    assert (found.answers, found.environment, found.notes) == ([], [], [])


ELEVEN = [float(number) for number in range(1, 12)]


@pytest.mark.parametrize(
    ("metric", "before", "after", "gate", "verdict"),
    [
        ("ttft", [[0.1]], [[0.11]], "ttft:10%", OK),  # exactly the limit is not more than the limit
        ("ttft", [[0.1]], [[0.1101]], "ttft:10%", WORSE),
        ("ttft", [[0.1]], [[0.09]], "ttft:10%", OK),
        ("ttft", [[0.1]], [[0.0899]], "ttft:10%", WIN),
        ("ttft", [[0.1]], [[0.104]], "ttft:5ms", OK),
        ("ttft", [[0.1]], [[0.106]], "ttft:5ms", WORSE),
        ("ttft", [[0.1]], [[0.1 * (1 + 1e-10)]], "ttft:0", OK),  # rounding is no change
        ("ttft", [[0.1]], [[0.1 * (1 + 1e-8)]], "ttft:0", WORSE),
        ("output_rate", [[100.0]], [[90.0]], "output_rate:10%", OK),
        ("output_rate", [[100.0]], [[89.9]], "output_rate:10%", WORSE),
        ("output_rate", [[100.0]], [[110.1]], "output_rate:10%", WIN),
        ("output_rate", [[100.0]], [[96.0]], "output_rate:5tokens/s", OK),
        ("output_rate", [[100.0]], [[94.0]], "output_rate:5", WORSE),
        ("kv_end", [[100]], [[129]], "kv_end:29%", OK),  # 0.29 × 100 is 28.999… in floats
        ("kv_end", [[100]], [[130]], "kv_end:29%", WORSE),
        ("kv_end", [[2**20]], [[2 * 2**20]], "kv_end:1MiB", OK),
        ("kv_end", [[2**20]], [[2 * 2**20 + 1]], "kv_end:1MiB", WORSE),
        ("kv_end", [[0]], [[5]], "kv_end:5", OK),
        ("kv_end", [[0]], [[6]], "kv_end:5", WORSE),
        ("prefill_flops", [[10**15]], [[10**15 + 1]], "prefill_flops.max:0.5", WORSE),  # integers are exact
        ("agreement", [[1], [1], [1], [0]], [[1], [1], [0], [0]], "agreement.mean:0.25", OK),
        ("agreement", [[1], [1], [1], [0]], [[1], [0], [0], [0]], "agreement.mean:0.25", WORSE),
        # p50 of 1..5 is 3; p90 of 33 values is near the 30th: 10 before, 12.4 after
        ("e2e", [[1.0, 2.0, 3.0, 4.0, 5.0]], [[1.0, 2.0, 3.0, 4.0, 9.0]], "e2e.p50:1%", OK),
        ("e2e", [ELEVEN] * 3, [[*ELEVEN[:9], 12.4, 12.4]] * 3, "e2e.p90:2.41s", OK),
        ("e2e", [ELEVEN] * 3, [[*ELEVEN[:9], 12.4, 12.4]] * 3, "e2e.p90:2.39s", WORSE),
        ("e2e", [[1.0, 2.0, 3.0, 4.0, 5.0]], [[1.0, 2.0, 3.0, 4.0, 9.0]], "e2e.mean:0.79s", WORSE),
        ("e2e", [[1.0, 2.0, 3.0, 4.0, 5.0]], [[1.0, 2.0, 3.0, 4.0, 9.0]], "e2e.mean:0.81s", OK),
        ("e2e", [[1.0, 2.0, 3.0, 4.0, 5.0]], [[1.0, 2.0, 3.0, 4.0, 9.0]], "e2e.max:75%", WORSE),
        ("e2e", [[1.0, 2.0, 3.0, 4.0, 5.0]], [[1.0, 2.0, 3.0, 4.0, 9.0]], "e2e.min:0", OK),
    ],
)
def test_verdicts_worked_out_by_hand(metric, before, after, gate, verdict):
    """Worse by more than the limit is a regression, better by more a win, in the metric's own direction."""
    assert moved(metric, before, after, gate).verdict is verdict


def test_exact_metrics_are_compared_item_by_item():
    """One item up and one down leave the mean as it was and are a regression; the largest change is named."""
    old, new = reports.make(), reports.make()
    reports.set_values(reports.arm(old, PRUNE), "prefill_flops", [[1000], [2000], [3000]])
    reports.set_values(reports.arm(new, PRUNE), "prefill_flops", [[900], [2010], [3090]])
    found = row(judged(old, new), "prefill_flops")
    assert found.verdict is WORSE
    assert (found.baseline, found.current, found.change) == (2000.0, 2000.0, 0.0)
    assert found.items is not None
    assert (found.items.total, found.items.changed, found.items.worse, found.items.better) == (3, 3, 2, 1)
    assert found.items.largest is not None
    assert found.items.largest.model_dump() == {"id": "table", "baseline": 3000, "current": 3090}


def test_fewer_visual_tokens_are_a_win_and_more_a_regression():
    """Visual tokens are a cost: more of them is worse, fewer is better, within rounding it is the same."""
    old = reports.make()
    reports.set_values(
        reports.arm(old, PRUNE), "visual_tokens_per_layer", [[84.583333333333], [80.0], [80.0]]
    )
    for value, verdict in ((84.58333333333301, OK), (84.59, WORSE), (84.57, WIN)):
        new = deepcopy(old)
        reports.set_values(reports.arm(new, PRUNE), "visual_tokens_per_layer", [[value], [80.0], [80.0]])
        assert row(judged(old, new), "visual_tokens_per_layer").verdict is verdict


def test_the_worst_round_of_an_item_counts():
    """An exact metric with several values for an item is judged by the worst of them."""
    old, new = reports.make(items=("desk",)), reports.make(items=("desk",))
    reports.set_values(reports.arm(old, PRUNE), "kv_end", [[5, 9, 7]])
    for values, verdict in (([9, 9], OK), ([4, 10], WORSE), ([8, 8], WIN)):
        reports.set_values(reports.arm(new, PRUNE), "kv_end", [values])
        assert row(judged(old, new), "kv_end").verdict is verdict


def test_the_ratio_to_dense_is_gated_on_routed_arms():
    """ttft.ratio looks at the routed arms' ratio, and at no ratio of dense to itself."""
    old, new = reports.make(), reports.make()
    reports.arm(new, PRUNE)["ratios"]["ttft"]["value"] = 0.56
    found = judged(old, new, "ttft.ratio:10%")
    assert failed(found) == [(PRUNE, "ttft.ratio")]
    assert row(found, "ttft.ratio").change == pytest.approx(0.12)
    assert row(found, "ttft.ratio", "nuwa-reroute").verdict is OK
    assert row(found, "ttft.p50", gated=False).verdict is FREE
    assert not [part for part in found.rows if part.name == "ttft.ratio" and part.arm == "dense"]


@pytest.mark.parametrize(("limit", "verdict"), [("answers:1", OK), ("answers:0", WORSE)])
def test_answers_are_counted_against_the_baselines(limit, verdict):
    """Answers that differ are counted for each arm and listed, whatever they agree with in their own run."""
    old, new = reports.make(), reports.make()
    reports.arm(new, PRUNE)["items"][1]["answer"] = "somewhere else"
    found = judged(old, new, limit)
    rows = [part for part in found.rows if part.name == "answers" and part.arm == PRUNE]
    assert [part.verdict for part in rows] == [verdict]
    assert [part.model_dump() for part in found.answers] == [
        {"arm": PRUNE, "item": "shelf", "baseline": "on the shelf", "current": "somewhere else"}
    ]


def test_the_weights_are_gated_for_the_run():
    """What belongs to the process is judged once and not for each arm."""
    old, new = reports.make(), reports.make()
    reports.scale(new["process"], "weights", 1.01)
    found = judged(old, new)
    assert failed(found) == [(None, "weights")]
    assert len([part for part in found.rows if part.metric == "weights"]) == 1


def test_a_win_fails_under_strict_only():
    """A baseline that is beaten is out of date, which is for --strict to say."""
    old, new = reports.make(), reports.make()
    reports.scale(reports.arm(new, PRUNE), "kv_end", 0.9)
    assert judged(old, new).passed
    assert failed(judged(old, new, strict=True)) == [(PRUNE, "kv_end")]
    assert row(judged(old, new), "kv_end").verdict is WIN


def test_an_arm_that_is_gone_is_a_regression():
    """Each arm of the baseline must be there; a new arm is only noted."""
    both, one = reports.make(), reports.make(arms=("dense", PRUNE))
    assert failed(judged(both, one)) == [("nuwa-reroute", "arm")]
    more = judged(one, both)
    assert more.passed
    assert more.notes == ["not gated, because the baseline lacks them: nuwa-reroute"]


def test_an_item_that_is_gone_is_a_regression():
    """What both have is compared, the loss fails, and statistics over other items are no comparison."""
    old, new = reports.make(), reports.make(items=("desk", "table"))
    for part in new["arms"]:
        for name in part["metrics"]:
            values = reports.arm(old, part["name"])["metrics"][name]["values"]
            reports.set_values(part, name, [values[0], values[2]])
    found = judged(old, new, "ttft:10%")
    assert failed(found) == [(None, "items"), *((arm, "ttft.p50") for arm in reports.ARMS)]
    assert row(found, "items", None).reason == "'shelf'"
    assert row(found, "prefill_flops").verdict is OK


def test_many_lost_items_are_counted_and_a_few_named():
    """A line stays a line, however many items there were."""
    old, new = reports.make(items=[f"item {i}" for i in range(9)]), reports.make(items=("item 8",))
    reason = row(judged(old, new), "items", None).reason
    assert reason == "'item 0', 'item 1', 'item 2' and 5 more"


def test_a_gated_metric_that_is_gone_is_a_regression():
    """Known in the baseline and unknown now is a loss, with the reason that the report gives."""
    old, new = reports.make(), reports.make()
    del reports.arm(new, PRUNE)["metrics"]["decode_flops"]
    reports.arm(new, PRUNE)["unknown"]["decode_flops"] = "the counter broke"
    found = judged(old, new)
    assert failed(found) == [(PRUNE, "decode_flops")]
    assert row(found, "decode_flops").reason == "unknown in the current report: the counter broke"


def test_a_gated_statistic_that_is_gone_is_a_regression():
    """A statistic and a ratio that can't be taken any more fail as exact metrics do."""
    old, new = reports.make(), reports.make()
    part = reports.arm(new, PRUNE)
    del part["metrics"]["tpot"], part["ratios"]["tpot"]
    part["unknown"]["tpot"] = "one token"
    found = judged(old, new, "tpot.p90:10%", "tpot.ratio:10%")
    assert failed(found) == [(PRUNE, "tpot.p90"), (PRUNE, "tpot.ratio")]
    assert row(found, "tpot.p90").reason == "unknown in the current report: one token"


def test_an_item_without_a_value_is_a_regression():
    """A value that the baseline has for an item and the current report has not is missing, by name."""
    old, new = reports.make(), reports.make()
    reports.set_values(reports.arm(old, PRUNE), "kv_end", [[5], [], [7]])
    reports.set_values(reports.arm(new, PRUNE), "kv_end", [[5], [6], []])
    found = row(judged(old, new), "kv_end")
    assert (found.verdict, found.reason) == (GONE, "no value for 'table'")
    assert found.items is not None
    assert found.items.total == 1


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [(100, 110, 0.1), (-2.0, -1.0, 0.5), (0, 0, 0.0), (0, 1, None), (None, 1, None), (5e-324, 1e30, None)],
)
def test_a_change_is_relative_to_the_baselines_size(before, after, change):
    """Up is plus whatever the sign; of nothing, of what is unknown and beyond floats there is no share."""
    assert relative_change(before, after) == change


def test_a_metric_without_a_gate_is_missed_on_the_same_machine_only():
    """On the machine of the baseline every metric can be measured again; another may lack the means."""
    old, new = reports.make(), reports.make()
    del reports.arm(new, PRUNE)["metrics"]["torch_peak_allocated"]
    reports.arm(new, PRUNE)["unknown"]["torch_peak_allocated"] = "no GPU"
    assert failed(judged(old, new)) == [(PRUNE, "torch_peak_allocated.p50")]
    new["environment"]["cpu"]["model"] = "another CPU"
    assert judged(old, new).passed


def test_a_gate_needs_its_metric_in_the_baseline():
    """A typed gate on what the baseline does not know is exit 5, and says why it is unknown."""
    with pytest.raises(NotComparable, match=r"energy.p50 has no baseline.*no NVIDIA driver"):
        judged(reports.make(), reports.make(), "energy:10%")
    old = reports.make()
    del reports.arm(old, PRUNE)["ratios"]["ttft"]
    with pytest.raises(NotComparable, match="no ratio to dense"):
        judged(old, reports.make(), "ttft.ratio:10%")
    alone = reports.make(arms=("dense",))
    with pytest.raises(NotComparable, match="only the dense one"):
        judged(alone, alone, "ttft.ratio:10%")


def test_a_default_gate_without_a_baseline_is_noted():
    """FLOPs that nobody could count, then and now, are not gated, and that is said."""
    old = reports.make()
    for part in old["arms"]:
        del part["metrics"]["decode_flops"]
        part["ratios"].pop("decode_flops", None)
        part["unknown"]["decode_flops"] = "flash attention is not counted"
    found = judged(old, deepcopy(old))
    assert found.passed
    assert found.notes == ["not gated, because the baseline does not know them: decode_flops"]


def test_a_typed_gate_gives_an_exact_metric_room():
    """2% more prefill FLOPs pass under 5%, fail under 1%, and fail without a gate of their own."""
    old, new = reports.make(), reports.make()
    reports.scale(reports.arm(new, PRUNE), "prefill_flops", 1.02)
    assert judged(old, new, "prefill_flops:5%").passed
    assert not judged(old, new, "prefill_flops:1%").passed
    assert not judged(old, new, "ttft:25%").passed


@pytest.mark.parametrize("gate", ["scoring_flops:10%", "scoring_flops.mean:10%"])
def test_a_relative_limit_needs_something_to_be_relative_to(gate):
    """Ten percent of zero is nothing: exit 2, with the remedy; 0% means exactly, of zero too."""
    old = reports.make()
    for part in old["arms"]:
        reports.set_values(part, "scoring_flops", [[0], [0], [0]])
    with pytest.raises(UsageError, match=r"the baseline has 0 everywhere.*give an absolute limit"):
        judged(old, deepcopy(old), gate)
    assert judged(old, deepcopy(old), "scoring_flops.mean:0%").passed


def test_a_zero_beside_others_has_no_room():
    """The dense arm never scores: under scoring_flops:10% the routed arms have room, dense still has none."""
    old = reports.make()
    reports.set_values(reports.arm(old, "dense"), "scoring_flops", [[0], [0], [0]])
    new = deepcopy(old)
    reports.scale(reports.arm(new, PRUNE), "scoring_flops", 1.05)
    assert judged(old, new, "scoring_flops:10%").passed
    reports.set_values(reports.arm(new, "dense"), "scoring_flops", [[1], [0], [0]])
    assert [row.arm for row in judged(old, new, "scoring_flops:10%").failed] == ["dense"]


def test_numbers_at_the_edge_of_floats_are_no_bug():
    """The smallest and largest numbers that a report may hold are compared without overflow."""
    old, new = reports.make(), reports.make()
    for value, other in ((5e-324, 1e30), (1e30, 5e-324), (0.0, 1e30), (-1e30, 1e30)):
        reports.set_values(reports.arm(old, PRUNE), "ttft", [[value]] * 3)
        reports.set_values(reports.arm(new, PRUNE), "ttft", [[other]] * 3)
        verdict = row(judged(old, new, "ttft:1s"), "ttft.p50").verdict
        assert verdict is (WORSE if other > value else WIN)
