"""Which reports may be compared: the same work always, the same machine for absolute times and memory."""

from copy import deepcopy
from typing import Any

import pytest

from reroute_cli.console.errors import NotComparable
from reroute_cli.records.comparison import Comparison
from reroute_cli.studies.compare import compare
from reroute_cli.studies.gates import all_gates
from tests.cli import reports

PRUNE = "nuwa-prune"


def judged(old: dict[str, Any], new: dict[str, Any], *gates: str, strict: bool = False) -> Comparison:
    """Two plain reports compared under the default gates and these."""
    return compare(reports.build(old), reports.build(new), all_gates(gates), strict=strict)


def _at(plain: dict[str, Any], path: str) -> tuple[Any, str]:
    *parents, last = path.split("/")
    for name in parents:
        plain = plain[int(name)] if isinstance(plain, list) else plain[name]
    return plain, last


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("model/id", "other", "the model's id was 'pocket', now 'other'"),
        ("model/family", "qwen2_5_vl", "family"),
        ("model/config_digest", "beef", "config_digest"),
        ("model/layers", 13, "layers"),
        ("model/dtype", "bfloat16", "dtype was 'float32', now 'bfloat16'"),
        ("model/attention", "eager", "attention"),
        ("model/weights", "random", "weights was 'loaded', now 'random'"),
        ("workload/new_tokens", 8, "--max-new-tokens was 16, now 8"),
        ("workload/batch_size", 2, "--batch-size was 1, now 2"),
        ("workload/seed", 1, "--seed was 0, now 1"),
    ],
)
def test_other_work_does_not_compare(path, value, words):
    """Another model, forced length, batch size or seed is exit 5 and named."""
    new = reports.make()
    parent, last = _at(new, path)
    parent[last] = value
    with pytest.raises(NotComparable) as caught:
        judged(reports.make(), new)
    assert words in str(caught.value)


def test_another_revision_does_not_compare():
    """Other weights under the same name are other work."""
    new = reports.make()
    new["model"] |= {"revision": "main", "reasons": {}}
    with pytest.raises(NotComparable, match="revision was unknown, now 'main'"):
        judged(reports.make(), new)


def test_other_items_do_not_compare():
    """An item that the baseline never saw is other work, by its digest and not by its name."""
    renamed, other = reports.make(), reports.make()
    renamed["workload"]["items"][0]["id"] = "bureau"
    for part in renamed["arms"]:
        part["items"][0]["id"] = "bureau"
    assert judged(reports.make(), renamed).passed
    other["workload"]["items"][0]["digest"] = "f" * 64
    with pytest.raises(NotComparable, match=r"1 of 3 items are not the baseline's.*'desk'"):
        judged(reports.make(), other)


def test_another_schedule_does_not_compare():
    """The same arm with another keep ratio is other work; both ratios are named."""
    new = reports.make()
    for item in reports.arm(new, PRUNE)["items"]:
        item |= {"schedule_digest": "another digest", "achieved_ratio": 0.778}
    with pytest.raises(NotComparable, match=r"'nuwa-prune' ran another schedule .*0\.5.*now .*0\.778"):
        judged(reports.make(), new)


def test_the_order_of_arms_and_items_does_not_matter():
    """Arms go by name and items by digest: shuffled, every number is compared with its own."""
    old, new = reports.make(items=("a", "b", "a", "c")), reports.make(items=("a", "b", "a", "c"))
    order = [3, 0, 2, 1]
    new["workload"]["items"] = [new["workload"]["items"][i] for i in order]
    for part in new["arms"]:
        part["items"] = [part["items"][i] for i in order]
        for name, series in part["metrics"].items():
            reports.set_values(part, name, [series["values"][i] for i in order])
    new["arms"][1:] = reversed(new["arms"][1:])
    found = judged(old, new, strict=True)
    assert found.passed, found.failed
    assert [part.arm for part in found.rows if part.metric == "ttft"] == list(reports.ARMS)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("model/device", "cuda", "device was 'cpu', now 'cuda'"),
        ("environment/cpu/model", "Other", "CPU was 'A CPU', now 'Other'"),
        ("environment/cpu/cores", 8, "cores was '4', now '8'"),
        ("environment/cpu/torch_threads", 1, "torch threads was '2', now '1'"),
        ("environment/gpus", [{"name": "H100"}], "GPUs was 'none', now 'H100'"),
        ("environment/gpus", "?", "GPUs was 'none', now unknown"),
        ("environment/cpu", None, "CPU was 'A CPU', now unknown"),
    ],
)
def test_absolute_times_and_memory_need_the_same_machine(path, value, words):
    """On another machine ttft is exit 5, while ratios and exact metrics are judged as ever."""
    new = reports.make()
    parent, last = _at(new, path)
    parent[last] = value
    for gate in ("ttft:25%", "host_peak_rss:1GiB", "ttft.p90:1s"):
        with pytest.raises(NotComparable) as caught:
            judged(reports.make(), new, gate)
        assert words in str(caught.value)
        assert gate.partition(":")[0] in str(caught.value)
    found = judged(reports.make(), new, "ttft.ratio:10%", "kv_end.mean:1%")
    assert found.passed
    assert not found.same_machine


def test_a_machine_that_is_not_stated_is_not_the_same():
    """Two reports that both say nothing of their machine say nothing of being the same."""
    old = reports.make()
    old["environment"] = {}
    with pytest.raises(NotComparable, match="CPU was unknown, now unknown"):
        judged(old, deepcopy(old), "ttft:25%")


def test_other_software_is_shown_and_does_not_block():
    """Versions are listed as they were and are, unknown ones too."""
    old, new = reports.make(), reports.make()
    new["environment"]["packages"] = {"torch": "2.12.0", "transformers": "5.23.0", "extra": "1"}
    new["environment"]["cuda"] = "12.8"
    found = judged(old, new)
    assert found.passed
    assert {(part.name, part.baseline, part.current) for part in found.environment} == {
        ("torch", "2.13.0", "2.12.0"),
        ("extra", None, "1"),
        ("cuda", None, "12.8"),
    }


def test_how_it_was_measured_does_not_block():
    """Other rounds and warm-up, and so other numbers of values, are no other work."""
    old, new = reports.make(), reports.make()
    new["protocol"] |= {"rounds": 5, "warmup": 0}
    values = [[value[0], *value, value[-1]] for value in reports.arm(new, PRUNE)["metrics"]["ttft"]["values"]]
    reports.set_values(reports.arm(new, PRUNE), "ttft", values)
    assert judged(old, new, "ttft:25%").passed
