"""Several schedules over the same items: each gets what a run of its own would give it, and costs no more."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from reroute_cli.console.options import ModelOptions
from reroute_cli.data import images as image_names
from reroute_cli.data.items import (
    Truth,
    batch_items,
)
from reroute_cli.measure import passes
from reroute_cli.models.load import (
    load,
)
from reroute_cli.records.store import RecordFile
from reroute_cli.run import batch, prepare
from reroute_cli.run.batch import BatchRun
from reroute_cli.run.prepare import (
    KeyedItem,
    Keys,
    PreparedItem,
    make_request,
)
from reroute_cli.run.schedules import ScheduleChoice

MANIFEST = Path(__file__).resolve().parents[3] / "samples" / "manifest.jsonl"
DENSE = ScheduleChoice()
REROUTE = ScheduleChoice("pdrop", "reroute", 0.8)
PRUNE = ScheduleChoice("fastv", "prune", 0.5)
NEVER = ScheduleChoice("fastv", "prune", 0.8, layers=(6,))  # half of the layers see everything
CHOICES = (DENSE, REROUTE, PRUNE)
NEW = 4


@pytest.fixture(scope="module")
def items():
    """Seven of the sample questions."""
    return batch_items(None, None, MANIFEST, 7).chosen


@pytest.fixture
def ask(pocket):
    """A function that asks items under several schedules in batches of three."""

    def asked(items, choices, is_done=lambda key: False, size=3):
        request = make_request(pocket, choices, NEW, size)
        return list(BatchRun(request).outcomes(items, is_done))

    return asked


@pytest.fixture
def watched(monkeypatch):
    """Every pass of the model as (whether it is routed, samples); `refuse` may raise in its place."""
    seen, generate = [], passes.timed_rows

    def watch(refuse=lambda job: None):
        def timed(job, new):
            seen.append((bool(job.schedule.stages), len(job.inputs["input_ids"])))
            refuse(job)
            return generate(job, new)

        monkeypatch.setattr(passes, "timed_rows", timed)
        return seen

    return watch


def elsewhere(item, path):
    """The item with its image at another path."""
    return replace(item, images=(replace(item.images[0], path=str(path)),))


def alike(record):
    """A record without what a clock changes."""
    return {**record.as_dict(), "latency": None}


def under(outcomes, ask):
    """The outcomes of one ask."""
    return [outcome for outcome in outcomes if outcome.ask == ask]


def ids(outcomes):
    """Which items they are of."""
    return [outcome.item.id for outcome in outcomes]


def test_each_ask_gives_what_a_run_of_its_own_gives(ask, items):
    """Three schedules at once: keys, answers, stages and costs of every record are those of single runs."""
    together = ask(items, CHOICES)
    assert len(together) == 3 * len(items)
    for index, choice in enumerate(CHOICES):
        alone = ask(items, [choice])
        assert [alike(outcome.record) for outcome in under(together, index)] == [
            alike(outcome.record) for outcome in alone
        ]
        assert [outcome.keys for outcome in under(together, index)] == [outcome.keys for outcome in alone]
    digests = {outcome.record.schedule.digest for outcome in together}
    assert len(digests) == 3


def test_batches_go_through_all_asks_before_the_next(ask, items, watched):
    """A B A B A B: passes of 3, 3 and 1 items, dense and routed in turn; items in order within each."""
    seen = watched()
    outcomes = ask(items, [DENSE, REROUTE])
    assert seen == [(routed, size) for size in (3, 3, 1) for routed in (False, True)]
    names = [item.id for item in items]
    expected = [(index, name) for start in (0, 3, 6) for index in (0, 1) for name in names[start : start + 3]]
    assert [(outcome.ask, outcome.item.id) for outcome in outcomes] == expected


def test_a_picture_is_prepared_once_for_all_asks(ask, items, monkeypatch):
    """Read for its key, opened and preprocessed once an item, with three asks as with one."""
    calls = Counter()
    named = {
        "digest_of": image_names,
        "open_image": image_names,
        "prompt_of": prepare,
        "count_visual": prepare,
    }
    for name, module in named.items():
        real = getattr(module, name)

        def counted(*given, _name=name, _real=real):
            calls[_name] += 1
            return _real(*given)

        monkeypatch.setattr(module, name, counted)
    ask(items, CHOICES)
    assert set(calls.values()) == {len(items)}
    assert len(calls) == 4


def test_a_schedule_that_cannot_be_built_fails_for_itself(ask, items):
    """Its records say what the ratio can reach; the asks before and after it answer as without it."""
    outcomes = ask(items, [DENSE, NEVER, REROUTE])
    assert all("0.8" in outcome.record.error for outcome in under(outcomes, 1))
    assert ids(under(outcomes, 1)) == [item.id for item in items]
    assert [outcome.record.key for outcome in under(outcomes, 1)] == [
        outcome.keys.failure for outcome in under(outcomes, 1)
    ]
    without = ask(items, [DENSE, REROUTE])
    for kept, index in ((0, 0), (2, 1)):
        assert [alike(outcome.record) for outcome in under(outcomes, kept)] == [
            alike(outcome.record) for outcome in under(without, index)
        ]


def test_no_schedule_at_all_is_an_error_for_every_item(ask, items, watched):
    """Where no ask has a schedule the model is never run, and every item is told."""
    seen = watched()
    outcomes = ask(items, [NEVER])
    assert (seen, ids(outcomes)) == ([], [item.id for item in items])
    assert all(outcome.record.error for outcome in outcomes)


def test_an_item_may_fail_under_one_ask_only(ask, items, watched):
    """What the model refuses when routed is answered when dense, and its neighbours are answered twice."""
    sound = ask(items, [DENSE, REROUTE], size=1)
    prompts = []
    watched(lambda job: prompts.append(job.inputs["input_ids"][0].tolist()))
    ask(items[4:5], [DENSE])
    bad = prompts.pop()

    def refuse(job):
        rows = job.inputs["input_ids"].tolist()
        if job.schedule.stages and any(row[-len(bad) :] == bad for row in rows):
            raise RuntimeError("no such thing")

    watched(refuse)
    outcomes = ask(items, [DENSE, REROUTE])
    wrong = [(outcome.ask, outcome.item.id) for outcome in outcomes if outcome.record.error]
    same = {item.id for item in items if item.question == items[4].question and item.image == items[4].image}
    assert wrong == [(1, items[4].id)]
    assert same == {items[4].id}
    told = {(outcome.ask, outcome.item.id): outcome.record for outcome in outcomes}
    for outcome in sound:
        if (outcome.ask, outcome.item.id) != wrong[0]:
            assert told[outcome.ask, outcome.item.id].answer == outcome.record.answer


def test_only_what_is_not_done_is_asked(ask, items, watched):
    """With all dense answers and two routed ones there, two routed passes are left, of five items."""
    first = ask(items, [DENSE, REROUTE])
    done = {outcome.keys.answer for outcome in under(first, 0)}
    done |= {outcome.keys.answer for outcome in under(first, 1)[1:3]}
    seen = watched()
    again = ask(items, [DENSE, REROUTE], done.__contains__)
    assert [outcome.record for outcome in under(again, 0)] == [None] * 7
    names = [item.id for item in items]
    routed = under(again, 1)
    assert (ids(under(again, 0)), ids(routed)) == (names, names)
    assert [outcome.record is None for outcome in routed] == [index in (1, 2) for index in range(7)]
    assert seen == [(True, 3), (True, 2)]
    for before, now in zip(under(first, 1), routed, strict=True):
        assert now.record is None or alike(now.record) == alike(before.record)


def test_a_group_of_every_kind_comes_out_in_order(ask, items):
    """Done, broken and open items side by side: one outcome each, in place, under every ask."""
    broken = elsewhere(items[1], MANIFEST.parent / "gone.png")
    hopeless = replace(items[4], problem="line 9 is no item")
    mixed = [items[0], broken, *items[2:4], hopeless, *items[5:]]
    first = ask(items, [DENSE, REROUTE])
    done = {first[0].keys.answer, *(outcome.keys.answer for outcome in first if outcome.item == items[5])}
    outcomes = ask(mixed, [DENSE, REROUTE], done.__contains__)
    kinds = {
        0: ["done", "error", "answer", "answer", "error", "done", "answer"],
        1: ["answer", "error", "answer", "answer", "error", "done", "answer"],
    }
    for index in (0, 1):
        found = under(outcomes, index)
        assert ids(found) == [item.id for item in mixed]
        assert [
            "done" if one.record is None else "error" if one.record.error else "answer" for one in found
        ] == kinds[index]
    failures = [one.record.key for one in outcomes if one.record is not None and one.record.error]
    assert len(set(failures)) == 4
    assert {one.record.error for one in outcomes if one.item.id == items[4].id} == {"line 9 is no item"}


def test_what_is_done_waits_for_nobody(pocket, items, monkeypatch):
    """With nothing open before it, each outcome is out before the next item is looked at."""
    told = []

    def one_by_one(request, items, is_done, waiting):
        for number, item in enumerate(items):
            assert len(told) == number
            yield PreparedItem(KeyedItem(item, (Keys("answer", "failure", True),)), (None,))

    monkeypatch.setattr(batch, "prepared_items", one_by_one)
    for outcome in BatchRun(make_request(pocket, [DENSE], NEW, 3)).outcomes(items, lambda key: True):
        told.append(outcome.item.id)  # noqa: PERF401  each before the next
    assert told == [item.id for item in items]


def test_out_of_memory_under_one_ask_halves_its_batches_only(ask, items, watched):
    """The dense model holds two samples, the routed one all: each keeps the size that fits it."""
    expected = ask(items, [DENSE, REROUTE], size=4)

    def refuse(job):
        if not job.schedule.stages and len(job.inputs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    seen = watched(refuse)
    outcomes = ask(items, [DENSE, REROUTE], size=4)
    dense, routed = (False, 4), (True, 4)
    assert seen == [dense, (False, 2), (False, 2), routed, (False, 2), (False, 1), (True, 3)]
    assert [one.record.answer for one in outcomes] == [one.record.answer for one in expected]
    assert [one.record.latency.halvings for one in under(outcomes, 0)] == [1] * 4 + [0] * 3
    assert {one.record.latency.halvings for one in under(outcomes, 1)} == {0}


def test_items_of_equal_schedules_share_passes_though_others_stand_between(
    drawn, tmp_path, tiny_qwen, watched
):
    """Two sizes of picture in turn under a budget: passes of three of a size, answers in the items' order."""
    for index in range(12):
        drawn(((112, 112), (224, 112))[index % 2]).save(tmp_path / f"{index:02}.png")
    given = batch_items(tmp_path, "where is the cup?", None, None).chosen
    loaded = load(ModelOptions(tiny_qwen, load_format="dummy"))
    choices = [DENSE, ScheduleChoice("fastv", "reroute", budget=8)]
    seen = watched()
    outcomes = list(BatchRun(make_request(loaded, choices, 2, 3)).outcomes(given, lambda key: False))
    assert seen == [(False, 3)] * 4 + [(True, 3)] * 4
    names = [item.id for item in given]
    assert (ids(under(outcomes, 0)), ids(under(outcomes, 1))) == (names, names)
    alone = list(BatchRun(make_request(loaded, choices, 2, 1)).outcomes(given, lambda key: False))
    for index in (0, 1):
        assert [one.record.answer for one in under(outcomes, index)] == [
            one.record.answer for one in under(alone, index)
        ]
        assert [one.record.schedule.stages for one in under(outcomes, index)] == [
            one.record.schedule.stages for one in under(alone, index)
        ]


def test_no_more_than_four_batches_are_gathered(drawn, tmp_path, tiny_qwen, watched):
    """Where schedules differ, the first answers come after eight items at batch 2, not at the end."""
    for index in range(12):
        drawn((56 * (1 + index % 4), 56 * (1 + index // 4))).save(tmp_path / f"{index:02}.png")
    given = batch_items(tmp_path, "where is the cup?", None, None).chosen
    loaded = load(ModelOptions(tiny_qwen, load_format="dummy"))
    choices = [ScheduleChoice("fastv", "reroute", budget=2), ScheduleChoice("fastv", "prune", budget=2)]
    watched()
    outcomes = list(BatchRun(make_request(loaded, choices, 2, 2)).outcomes(given, lambda key: False))
    assert [one.ask for one in outcomes] == [0] * 8 + [1] * 8 + [0] * 4 + [1] * 4


def test_pictures_that_come_as_bytes_are_let_go(ask, items):
    """Bytes and file give the same key and answer; what is handed out no longer holds the bytes."""
    data = [item.read() for item in items[:2]]
    data.append(items[2].with_data([b"no picture"]))
    outcomes, files = ask(data, [DENSE]), ask(items[:2], [DENSE])
    assert [one.keys for one in outcomes[:2]] == [one.keys for one in files]
    assert [one.record.answer for one in outcomes[:2]] == [one.record.answer for one in files]
    assert "not an image" in outcomes[2].record.error
    done = ask(data[:1], [DENSE], lambda key: True)
    assert [one.item.images[0].data for one in (*outcomes, *done)] == [None] * 4


@pytest.mark.parametrize("held", [0, 1 << 20])
def test_a_picture_that_changes_under_the_run_is_an_error_unless_its_bytes_were_kept(
    ask, items, monkeypatch, tmp_path, drawn, held
):
    """A key must not stand for a picture that the model did not see, whatever becomes of the file."""
    monkeypatch.setattr(prepare, "MOST_HELD", held)
    path = tmp_path / "a.png"
    shutil.copy(items[0].images[0].path, path)
    (before,) = ask(items[:1], [DENSE])

    def changes(_key):
        drawn((64, 64)).save(path)
        return False

    (outcome,) = ask([elsewhere(items[0], path)], [DENSE], changes)
    assert outcome.keys == before.keys
    if held:
        assert outcome.record.answer == before.record.answer
        return
    assert (
        outcome.record.error
        == f"'{items[0].image}' changed while it was read: ask again once it stays as it is"
    )


def test_a_true_box_outside_its_picture_is_an_error_under_every_ask(ask, items):
    """It says the line, the box and the size; scoring against it would be scoring against nothing."""
    wrong = replace(items[0], label=Truth("box", box=(1.0, 2.0, 300.0, 40.0)))
    outcomes = ask([wrong, replace(wrong, where="")], [DENSE, REROUTE])
    expected = "the true box [1.0, 2.0, 300.0, 40.0] reaches out of the image, which is 224 × 224"
    assert [one.record.error.split(": ")[1] for one in outcomes] == [expected] * 4
    assert {one.record.error.split(": ")[0] for one in outcomes} == {items[0].where, repr(items[0].id)}


def test_more_tokens_than_the_model_reads_are_an_error_before_it_runs(pocket, items, watched):
    """Every item says how many it has and may get, and the model's limit."""
    seen = watched()
    request = make_request(pocket, [DENSE], 100_000, 3)
    outcomes = list(BatchRun(request).outcomes(items[:2], lambda key: False))
    assert seen == []
    limit = pocket.model.config.get_text_config().max_position_embeddings
    assert all(
        f"100000 new ones may follow, but 'pocket' reads {limit}" in one.record.error for one in outcomes
    )


def test_another_run_goes_on_where_a_file_ends(pocket, items, tmp_path):
    """A second run with one more ask answers that one alone; errors of every ask are tried again."""
    path, broken = tmp_path / "o.jsonl", elsewhere(items[1], "gone.png")

    def kept(given, choices):
        request = make_request(pocket, choices, NEW, 3)
        with RecordFile(path) as file:
            outcomes = list(BatchRun(request).outcomes(given, file.is_done))
            for outcome in outcomes:
                outcome.keep(file)
        return outcomes

    kept([items[0], broken, items[2]], [DENSE])
    again = kept(items[:3], [DENSE, REROUTE])
    assert [one.record is None for one in under(again, 0)] == [True, False, True]
    assert not any(one.record is None for one in under(again, 1))
    assert {one.record is None for one in kept(items[:3], [DENSE, REROUTE])} == {True}
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["id"] for record in records[:3]] == ids(under(again, 0))
    assert (len(records), [record["error"] for record in records]) == (6, [None] * 6)


def test_an_answer_that_cannot_be_read_fails_alone(ask, items, monkeypatch):
    """Where the boxes of one answer can't be worked out its record says so; its neighbours are answered."""
    boxes_in, calls = batch.boxes_in, []

    def third_broken(*given):
        calls.append(given)
        if len(calls) == 3:
            raise ValueError("no such box")
        return boxes_in(*given)

    monkeypatch.setattr(batch, "boxes_in", third_broken)
    errors = [one.record.error or "" for one in ask(items[:4], [DENSE])]
    assert ["no such box" in error for error in errors] == [False, False, True, False]
