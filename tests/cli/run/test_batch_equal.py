"""An item gets in a batch what it gets alone: answer, kept tokens, and the numbers made by arithmetic."""

import json
from pathlib import Path

import pytest

MANIFEST = Path(__file__).resolve().parents[3] / "samples" / "manifest.jsonl"
SCHEDULES = {
    "dense": (),
    "pdrop-reroute": ("--method", "pdrop", "--action", "reroute", "--ratio", "0.8"),
    "nuwa-prune": ("--method", "nuwa", "--ratio", "0.75"),
    "random-reroute": ("--method", "random", "--action", "reroute", "--ratio", "0.5", "--seed", "3"),
}
QWEN = ("--load-format", "dummy", "--max-new-tokens", "6")

pytestmark = pytest.mark.usefixtures("warm")


def records(result):
    """Every record on stdout, by its id."""
    assert result.exit_code == 0, result.output
    found = [json.loads(line) for line in result.stdout.splitlines()]
    return {record["id"]: record for record in found}


def alike(record):
    """A record without what measuring changes."""
    kv = {name: value for name, value in record["kv_cache"].items() if name != "source"}
    return {**record, "kv_cache": kv, "latency": None}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_a_batch_answers_as_single_items_do(run, schedule):
    """Of 11 sample questions every record is the same at batch 1, 4 and 7, but for times."""
    arguments = ("batch", "--manifest", str(MANIFEST), "--limit", "11", "--max-new-tokens", "16", *schedule)
    alone = records(run(*arguments))
    assert len(alone) == 11
    assert {record["latency"]["batch_size"] for record in alone.values()} == {1}
    for size in (4, 7):
        batch = records(run(*arguments, "--batch-size", str(size)))
        assert list(batch) == list(alone)
        assert {name: alike(record) for name, record in batch.items()} == {
            name: alike(record) for name, record in alone.items()
        }
        sizes = [record["latency"]["batch_size"] for record in batch.values()]
        assert sizes == [min(size, 11 - index // size * size) for index in range(11)]


@pytest.mark.parametrize(
    "schedule", [(), ("--method", "fastv", "--action", "reroute", "--ratio", "0.5")], ids=["dense", "routed"]
)
def test_ragged_visual_tokens_answer_as_single_items_do(run, drawn, tmp_path, tiny_qwen, schedule):
    """A Qwen2.5-VL with pictures of five sizes: the three shortest share a pass, with the same answers."""
    for index, size in enumerate([(112, 112), (224, 112), (90, 200), (224, 224), (60, 60)]):
        drawn(size).save(tmp_path / f"{index}.png")
    arguments = ("batch", str(tmp_path), "-Q", "where is the cup?", "-m", tiny_qwen, *QWEN, *schedule)
    alone, batch = records(run(*arguments)), records(run(*arguments, "--batch-size", "3"))
    assert len({record["tokens"]["visual_tokens"] for record in alone.values()}) > 2
    assert {name: alike(record) for name, record in batch.items()} == {
        name: alike(record) for name, record in alone.items()
    }
    by_length = sorted(batch.values(), key=lambda record: record["tokens"]["prompt_tokens"])
    assert [record["latency"]["batch_size"] for record in by_length] == [3, 3, 3, 2, 2]
    assert list(batch) == list(alone)


def test_items_of_different_schedules_do_not_share_a_batch(run, drawn, tmp_path, tiny_qwen):
    """A budget in tokens is another keep ratio for every number of visual tokens: they run one by one."""
    for index, size in enumerate([(112, 112), (112, 112), (224, 112), (224, 224)]):
        drawn(size).save(tmp_path / f"{index}.png")
    routed = ("--method", "fastv", "--budget", "8", "--batch-size", "4")
    found = records(run("batch", str(tmp_path), "-Q", "where is the cup?", "-m", tiny_qwen, *QWEN, *routed))
    assert [record["latency"]["batch_size"] for record in found.values()] == [2, 2, 1, 1]
    assert len({record["schedule"]["digest"] for record in found.values()}) == 3


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_the_arithmetic_of_a_batch_is_what_ask_counts(run, record, schedule):
    """FLOPs, KV bytes, tokens, boxes and the answer of a batch record are those that `ask` measures."""
    arguments = ("--max-new-tokens", "16", *schedule)
    batch = ("batch", "--manifest", str(MANIFEST), "--limit", "3", "--batch-size", "3")
    for found in records(run(*batch, *arguments)).values():
        asked = record(str(MANIFEST.parent / found["image"]), found["question"], *arguments)
        for name in ("answer", "boxes", "key", "model", "schedule", "tokens"):
            assert found[name] == asked[name], name
        assert found["kv_cache"] == asked["kv_cache"] | {"source": "estimated"}
        estimated = {"source": "estimated", "dense_source": "estimated"}
        assert found["flops"] == asked["flops"] | estimated
