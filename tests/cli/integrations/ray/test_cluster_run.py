"""The driver's bookkeeping, with a played cluster: everything once, whatever is lost or comes twice."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from reroute_cli.console.errors import Failure
from reroute_cli.console.options import ModelOptions
from reroute_cli.data.items import (
    batch_items,
)
from reroute_cli.integrations.ray import run as cluster_run
from reroute_cli.integrations.ray.pool import (
    Node,
    WorkerOptions,
)
from reroute_cli.integrations.ray.rows import WorkerAnswer
from reroute_cli.integrations.ray.run import (
    BrokenOff,
    ClusterRun,
)
from reroute_cli.models.load import (
    without_weights,
)
from reroute_cli.records.answer import FailedAnswer
from reroute_cli.run.batch import BatchRun
from reroute_cli.run.prepare import (
    make_request,
)
from reroute_cli.run.schedules import ScheduleChoice

SAMPLES = Path(__file__).resolve().parents[4] / "samples"
ITEMS = 14


class Played:
    """A link to a cluster of two nodes, which `rounds` say what comes back of: a function for each."""

    def __init__(self, monkeypatch, *rounds):
        self.rounds, self.asked, self.sizes, self.alive = list(rounds), [], [], 2
        monkeypatch.setattr(cluster_run, "answers", self._answers)

    def nodes(self):
        return [Node("a", 1, 0), Node("b", 1, 0)][: self.alive]

    def _answers(self, _link, made, jobs, _look):
        self.asked.append([index for index, _ in jobs])
        self.sizes.append((made.size, made.pool.workers))
        yield from self.rounds.pop(0)(jobs)


def record_of(item, error=None):
    """A record as a worker sends it: under a key that the driver does not trust."""
    model = {"id": "m", "revision": None, "family": "f", "dtype": "d", "attention": "a", "device": "cpu"}
    model |= {
        "config_digest": "c",
        "layers": 1,
        "weights": "random",
        "reasons": {"revision": "random weights"},
    }
    names = {"id": item.id, "image": item.image, "images": [item.image], "question": item.question}
    return FailedAnswer(**names, key="0" * 64, model=model, error=error or "played").as_dict()


def all_of(jobs):
    """Every answer, in order."""
    for index, keyed in jobs:
        yield WorkerAnswer(index, record_of(keyed.item), "", 0.5)


def all_but(*lost):
    """Every answer but these."""
    return lambda jobs: (answer for answer in all_of(jobs) if answer.index not in lost)


def twice_backwards(jobs):
    """Every answer, the last first, and all once more."""
    made = list(all_of(jobs))
    yield from made[::-1]
    yield from made


def broken_after(count):
    """So many answers, and then what Ray raises."""

    def answers(jobs):
        yield from list(all_of(jobs))[:count]
        raise RuntimeError("ray is gone\nwith a long trace")

    return answers


@pytest.fixture
def request_():
    """What the driver asks, with no model."""
    return make_request(without_weights(ModelOptions(), "cpu"), [ScheduleChoice()], 4, 2)


@pytest.fixture
def items():
    """The first sample questions."""
    return batch_items(None, None, SAMPLES / "manifest.jsonl", ITEMS).chosen


def outcomes(request, link, items, done=lambda key: False, talk=None):
    """A run on this cluster and its outcomes."""
    run = ClusterRun(link, request, ModelOptions(), WorkerOptions(), talk or (lambda sentence: None))
    return run, list(run.outcomes(items, done))


def test_what_comes_twice_and_out_of_order_is_one_outcome_each(monkeypatch, request_, items):
    """Under the keys of one machine, in the order of arrival."""
    link = Played(monkeypatch, twice_backwards)
    run, found = outcomes(request_, link, items)
    assert [outcome.item.id for outcome in found] == [item.id for item in reversed(items)]
    assert len({outcome.record.key for outcome in found}) == ITEMS
    assert [outcome.record.key for outcome in found] == [outcome.keys.failure for outcome in found]
    assert (run.workers, link.sizes) == (2, [(6, 2)])


def test_what_a_worker_lost_is_asked_again_one_by_one(monkeypatch, request_, items):
    """Only that, and somebody is told."""
    link, said = Played(monkeypatch, all_but(3, 4), all_of), []
    _, found = outcomes(request_, link, items, talk=said.append)
    assert link.asked == [list(range(ITEMS)), [3, 4]]
    assert [size for size, _ in link.sizes] == [6, 1]
    assert sorted(outcome.item.id for outcome in found) == sorted(item.id for item in items)
    assert said == ["a worker was lost: 2 items are asked again, one by one"]


def test_an_item_that_ends_its_worker_each_time_is_an_error_record(monkeypatch, request_, items):
    """Its neighbours are answered, and the run ends."""
    link = Played(monkeypatch, all_but(3, 4), all_but(3), all_but(3))
    _, found = outcomes(request_, link, items)
    assert link.asked[1:] == [[3, 4], [3]]
    assert len(found) == ITEMS
    last = found[-1]
    assert (last.item.id, last.record.key) == (items[3].id, last.keys.failure)
    assert "the worker process ended each time" in last.record.error


def test_a_lost_node_leaves_room_for_fewer_workers(monkeypatch, request_, items):
    """The second round takes as many as fit; where none does, the run ends in a sentence."""
    link = Played(monkeypatch, all_but(3), all_of)
    run = ClusterRun(
        link, request_, ModelOptions(), WorkerOptions(), lambda sentence: setattr(link, "alive", 1)
    )
    assert len(list(run.outcomes(items, lambda key: False))) == ITEMS
    assert link.sizes == [(6, 2), (1, 1)]
    link = Played(monkeypatch, all_but(3))
    run = ClusterRun(
        link, request_, ModelOptions(), WorkerOptions(), lambda sentence: setattr(link, "alive", 0)
    )
    with pytest.raises(Failure, match="no node that is left has room"):
        list(run.outcomes(items, lambda key: False))


def test_a_round_that_breaks_off_is_followed_by_another(monkeypatch, request_, items):
    """As long as each brings something; else the run ends in one sentence with Ray's first line."""
    link = Played(monkeypatch, broken_after(5), all_of)
    _, found = outcomes(request_, link, items)
    assert (len(found), link.asked[1]) == (ITEMS, list(range(5, ITEMS)))
    link = Played(monkeypatch, broken_after(5), broken_after(0))
    with pytest.raises(BrokenOff, match=r"broke off \(ray is gone\): the records so far are safe"):
        outcomes(request_, link, items)


def test_a_worker_that_can_not_work_ends_the_run(monkeypatch, request_, items):
    """With its sentence; nothing else is asked."""
    link = Played(
        monkeypatch, lambda jobs: iter([WorkerAnswer(0, {}, "a worker on 'x' can't work: why", 0.0)])
    )
    with pytest.raises(Failure, match="a worker on 'x' can't work: why"):
        outcomes(request_, link, items)


def test_what_is_done_or_unreadable_needs_no_cluster(monkeypatch, request_, tmp_path):
    """Its outcome is the driver's own; workers is then 0."""
    shutil.copy(SAMPLES / "desk.png", tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"")
    pictures = batch_items(tmp_path, "x", None, None).chosen
    link = Played(monkeypatch)
    link.nodes = lambda: pytest.fail("a cluster was asked")
    run, found = outcomes(request_, link, pictures, done=lambda key: True)
    assert [outcome.record is None for outcome in found] == [True, False]
    assert "is empty" in found[1].record.error
    assert run.workers == 0


def test_keys_are_those_of_one_machine(monkeypatch, request_, items, pocket):
    """Copies of a picture too, which lie in tables of different workers."""
    copies = (*items, *(replace(item, id=f"again {item.id}") for item in items))
    link = Played(monkeypatch, twice_backwards)
    _, found = outcomes(request_, link, copies)
    alone = BatchRun(make_request(pocket, [ScheduleChoice()], 4, 2)).outcomes(copies, lambda key: True)
    keys = {outcome.item.id: outcome.keys.answer for outcome in alone}
    assert {outcome.item.id: outcome.keys.answer for outcome in found} == keys
    assert len(set(keys.values())) == 2 * ITEMS


def test_few_items_do_not_start_idle_workers(monkeypatch, request_, items):
    """One table of two items is work for one of two workers."""
    link = Played(monkeypatch, all_of)
    run, _ = outcomes(request_, link, items[:2])
    assert (run.workers, link.sizes) == (1, [(2, 1)])
    assert run.waiting.seconds == 1.0  # half a second for each answer that the play sends
