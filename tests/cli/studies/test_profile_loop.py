"""The measuring loop: order, equal work, and a clock that nothing disturbs."""

import gc
import json
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from reroute_cli.console.options import ArmsOptions
from reroute_cli.data.images import ImageSource
from reroute_cli.data.items import Item
from reroute_cli.measure import passes as run
from reroute_cli.records.metrics import METRICS, Kind, Level
from reroute_cli.run.batch import collate
from reroute_cli.run.prompts import PreparedPrompt
from reroute_cli.run.schedules import arms_of
from reroute_cli.studies import profile as loop
from reroute_cli.studies.profile import MeasurePlan, Task, Work, measure, prepare
from reroute_cli.studies.profile_report import make_report
from reroute_cli.views.profile import warnings
from tests.cli.published import checked

QUESTION = "where is the cup?"


class Recorder:
    """Passes that note what ran, in place of a model: (pass, item, arm, length) in order."""

    def __init__(self, monkeypatch):
        self.ran = []
        self.collecting = []
        kv = SimpleNamespace()
        for name, result in {
            "timed_pass": SimpleNamespace(),
            "forced_pass": SimpleNamespace(e2e=1.0),
            "count_flops": SimpleNamespace(),
            "cache_pass": kv,
            "memory_pass": SimpleNamespace(),
        }.items():
            monkeypatch.setattr(run, name, self._noting(name, result))
        monkeypatch.setattr(run, "on_device", lambda inputs, model: inputs)
        monkeypatch.setattr(Task, "preprocess", lambda task, loaded, arms: self._preprocess(task, arms))

    def _noting(self, name, result):
        def note(job, length):
            self.ran.append((name, job.inputs["item"], job.schedule, length))
            self.collecting.append(gc.isenabled())
            return result

        return note

    def _preprocess(self, task, arms):
        self.ran.append(("preprocess", task.item.id, None, None))
        return [0.001] * len(arms)


def _work(items=("a", "b"), arms=("dense", "routed")):
    loaded = SimpleNamespace(model=None, attention="sdpa")
    prompts = {name: SimpleNamespace(inputs={"item": name}) for name in items}
    tasks = tuple(
        Task(Item(name, (), QUESTION), "", tuple(PreparedPrompt(prompts[name], 4, arm, 16) for arm in arms))
        for name in items
    )
    return Work(loaded, arms, tasks)


def _measure(work, plan, tell=lambda _: None, done=lambda: None):
    return measure(work, plan, tell, done)


def test_arms_are_interleaved_in_every_pass(monkeypatch):
    """Item by item, dense and routed in turn: A B A B in answers, each round, FLOPs and memory."""
    recorder = Recorder(monkeypatch)
    _measure(_work(), MeasurePlan(16, warmup=1, rounds=2))
    in_turn = [("a", "dense"), ("a", "routed"), ("b", "dense"), ("b", "routed")]
    for name, passes in {"timed_pass": 1, "forced_pass": 3, "count_flops": 1, "memory_pass": 1}.items():
        order = [(item, arm) for ran, item, arm, _ in recorder.ran if ran == name]
        assert order == in_turn * passes


def test_passes_of_one_kind_stand_together(monkeypatch):
    """Answers, then time, then FLOPs, then memory: no FLOP is counted between two timed answers."""
    recorder = Recorder(monkeypatch)
    _measure(_work(), MeasurePlan(16, warmup=1, rounds=2))
    kinds = [name for name, *_ in recorder.ran]
    kinds = ["time" if name in ("forced_pass", "preprocess") else name for name in kinds]
    kinds = ["memory" if name in ("memory_pass", "cache_pass") else name for name in kinds]
    together = [kind for index, kind in enumerate(kinds) if not index or kinds[index - 1] != kind]
    assert together == ["timed_pass", "time", "count_flops", "memory"]


def test_every_measured_answer_has_the_forced_length(monkeypatch):
    """Clock, FLOPs and memory run 7 tokens in both arms; only the cache after the prefill runs one."""
    recorder = Recorder(monkeypatch)
    _measure(_work(), MeasurePlan(7, warmup=1, rounds=1))
    lengths = {name: [] for name, *_ in recorder.ran}
    for name, _, _, length in recorder.ran:
        lengths[name].append(length)
    assert set(lengths["forced_pass"]) == set(lengths["count_flops"]) == set(lengths["memory_pass"]) == {7}
    assert lengths["cache_pass"] == [1, 7] * 4


def test_warm_up_rounds_are_run_and_not_kept(monkeypatch):
    """Two warm-up rounds do the work of a timed round, preprocessing included, and leave nothing."""
    recorder = Recorder(monkeypatch)
    measured = _measure(_work(), MeasurePlan(4, warmup=2, rounds=3))
    assert [len(rounds) for rounds in (measured.rounds, measured.preprocess)] == [3, 3]
    names = [name for name, *_ in recorder.ran]
    assert names.count("forced_pass") == (2 + 3) * 4
    assert names.count("preprocess") == (2 + 3) * 2


def _taking(monkeypatch, seconds):
    """Timed passes that take, of each round, the seconds of a list."""
    left = iter(seconds)
    monkeypatch.setattr(run, "forced_pass", lambda job, length: SimpleNamespace(e2e=next(left)))


STEADY = MeasurePlan(4, warmup=10, rounds=2, until_steady=True)


def test_a_steady_sleep_ends_the_warm_up_at_its_fewest_rounds(monkeypatch):
    """Passes of exactly 0.2 s: three warm-up rounds, then the two timed ones, and the bar is full."""
    recorder, told, steps = Recorder(monkeypatch), [], []
    clock = SimpleNamespace(now=0.0)

    def sleep(job, length):
        recorder.ran.append(("forced_pass", job.inputs["item"], job.schedule, length))
        start, clock.now = clock.now, clock.now + 0.2
        return SimpleNamespace(e2e=round(clock.now - start, 9))

    monkeypatch.setattr(run, "forced_pass", sleep)
    measured = _measure(_work(), STEADY, told.append, lambda: steps.append(1))
    assert measured.warm == [[0.4, 0.4]] * 3
    assert [word for word in told if word.startswith("warm-up")] == [
        f"warm-up {number} of at most 10" for number in (1, 2, 3)
    ]
    assert len(measured.rounds) == 2
    assert [name for name, *_ in recorder.ran].count("forced_pass") == (3 + 2) * 4
    assert len(steps) == STEADY.jobs(items=2, arms=2)


def test_a_falling_series_is_warmed_up_for_longer(monkeypatch):
    """One item under one arm at 4, 2, 1, 1, 1: the timed rounds begin with the sixth."""
    Recorder(monkeypatch)
    _taking(monkeypatch, [4.0, 2.0, 1.0, 1.0, 1.0, 0.5, 0.25])
    measured = _measure(_work(("a",), ("dense",)), STEADY)
    assert measured.warm == [[4.0], [2.0], [1.0], [1.0], [1.0]]
    assert [grid[0][0].e2e for grid in measured.rounds] == [0.5, 0.25]


def test_a_noisy_series_is_warmed_up_to_the_most(monkeypatch):
    """Seconds that double and halve: ten rounds and no more."""
    Recorder(monkeypatch)
    _taking(monkeypatch, [1.0, 2.0] * 6)
    assert len(_measure(_work(("a",), ("dense",)), STEADY).warm) == 10


def test_items_of_one_kind_go_together_in_order():
    """Four items, the third of which has another schedule under the routed arm: 0 with 1, 3 and 2 alone."""
    work = _work(("a", "b", "c", "d"))
    odd = work.tasks[2]
    tasks = (*work.tasks[:2], replace(odd, prompts=(odd.prompts[0], replace(odd.prompts[1], schedule="x"))))
    work = replace(work, tasks=(*tasks, work.tasks[3]))
    assert work.together(2) == [(0, 1), (3,), (2,)]
    assert work.together(8) == [(0, 1, 3), (2,)]
    assert work.together(1) == [(0,), (1,), (2,), (3,)]


def test_what_is_timed_together_is_what_batch_asks(pocket, picture, monkeypatch):
    """A pass of two gets the padded inputs that `batch` gives its model; the third item goes alone."""
    seen = []
    work = _three(pocket, picture)
    monkeypatch.setattr(
        run, "forced_pass", lambda job, length: seen.append(job.inputs) or SimpleNamespace(e2e=1.0)
    )
    _measure(work, MeasurePlan(2, warmup=0, rounds=1, batch_size=2))
    asked = collate([task.prompt.inputs for task in work.tasks[:2]], run.pad_token(pocket))
    assert [len(one["input_ids"]) for one in seen] == [2, 2, 1, 1]
    assert seen[0].keys() == asked.keys()
    assert all(torch.equal(seen[0][name], asked[name]) for name in asked)
    assert seen[0]["attention_mask"].sum(1).tolist() == [task.prompt.tokens for task in work.tasks[:2]]


def _three(pocket, picture):
    questions = (QUESTION, "what is there, and how many of it are red?", QUESTION)
    items = [Item(str(at), (ImageSource(picture, picture),), asked) for at, asked in enumerate(questions)]
    return prepare(pocket, items, arms_of(ArmsOptions(method="pdrop", action="prune", ratio=0.9)), 3)


def test_requests_that_go_together_cost_and_answer_what_they_do_alone(pocket, picture):
    """Costs and answers at --batch-size 2 are those at 1, peaks are unknown; rates count all requests."""
    work = _three(pocket, picture)
    alone, both = (MeasurePlan(3, 0, 1, batch_size=size, slo={"e2e": 1e6}) for size in (1, 2))
    one, two = (make_report(work, plan, _measure(work, plan), seed=0) for plan in (alone, both))
    assert (two.workload.batch_size, two.workload.passes) == (2, [[0, 1], [2]])
    for before, after in zip(one.arms, two.arms, strict=True):
        assert after.items == before.items
        for name, metric in METRICS.items():
            if metric.kind is Kind.EXACT and metric.level is Level.ARM:
                assert after.metrics[name].values == before.metrics[name].values
        assert "--batch-size 1" in after.unknown["energy"]
        e2e = [values[0] for values in after.metrics["e2e"].values]
        rates = [values[0] for values in after.metrics["request_rate"].values]
        assert rates == pytest.approx([2 / e2e[0], 1 / e2e[1]])
        tokens = [values[0] for values in after.metrics["output_rate"].values]
        assert tokens == pytest.approx([6 / e2e[0], 3 / e2e[1]])
        assert after.metrics["goodput"].values == [[pytest.approx(3 / sum(e2e))]]
        assert after.requests_met == 3
    assert checked(json.dumps(two.as_dict())) == two


def test_no_garbage_is_collected_inside_a_timed_answer(monkeypatch):
    """The collector is off while the clock runs, on again afterwards, also when a pass fails."""
    recorder = Recorder(monkeypatch)
    _measure(_work(), MeasurePlan(4, warmup=0, rounds=1))
    by_pass = {name: on for (name, *_), on in zip(_jobs(recorder), recorder.collecting, strict=True)}
    assert by_pass == {
        "timed_pass": True,
        "forced_pass": False,
        "count_flops": True,
        "memory_pass": True,
        "cache_pass": True,
    }
    assert gc.isenabled()
    monkeypatch.setattr(run, "forced_pass", lambda job, length: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        _measure(_work(), MeasurePlan(4, warmup=0, rounds=1))
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def _jobs(recorder):
    return [ran for ran in recorder.ran if ran[0] != "preprocess"]


def test_a_collector_that_was_off_stays_off():
    """Whoever switched it off gets it back switched off."""
    gc.disable()
    try:
        with loop.calm_collector():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_garbage_of_one_answer_is_gone_before_the_next(monkeypatch):
    """With the collector off, what an answer leaves in a cycle would pile up: it is freed in between."""
    alive = []

    class Cycle:
        pass

    def leave(job, length):
        alive.append(sum(isinstance(thing, Cycle) for thing in gc.get_objects()))
        cycle = Cycle()
        cycle.self = cycle

    Recorder(monkeypatch)
    monkeypatch.setattr(run, "forced_pass", leave)
    _measure(_work(), MeasurePlan(4, warmup=0, rounds=2))
    assert alive == [0] * 8


def test_progress_counts_every_job_and_only_between_them(monkeypatch):
    """As many steps as the plan says, each after its job, and none while one runs."""
    recorder = Recorder(monkeypatch)
    plan, steps = MeasurePlan(4, warmup=1, rounds=2), []
    _measure(_work(), plan, done=lambda: steps.append(len(recorder.ran)))
    assert len(steps) == plan.jobs(items=2, arms=2) == 2 * 2 * (1 + 2 + 3)
    assert steps == sorted(steps)


def test_attention_that_can_t_be_counted_is_not_run_for_counting(monkeypatch):
    """Flash attention: no FLOPs pass, and none of its numbers."""
    recorder = Recorder(monkeypatch)
    work = _work()
    work.loaded.attention = "flash_attention_2"
    measured = _measure(work, MeasurePlan(4, warmup=0, rounds=1))
    assert measured.flops == [[None, None]] * 2
    assert "count_flops" not in {name for name, *_ in recorder.ran}


def _prepared(pocket, picture, new_tokens):
    items = [Item("one", (ImageSource(picture, picture),), QUESTION)]
    arms = arms_of(ArmsOptions(method="pdrop", action="prune", ratio=0.9))
    return prepare(pocket, items, arms, new_tokens)


def test_a_known_slow_down_shows_in_the_ratio(pocket, picture, monkeypatch):
    """A sleep in front of the decoder, in the routed arm alone, comes out as that arm's time, and is said."""
    nap, generate = 0.15, run._generate

    def slowed(job, *arguments, **options):
        if not job.schedule.entries:
            return generate(job, *arguments, **options)
        decoder = job.loaded.model.get_decoder()
        hook = decoder.register_forward_pre_hook(lambda *_: time.sleep(nap))
        try:
            return generate(job, *arguments, **options)
        finally:
            hook.remove()

    monkeypatch.setattr(run, "_generate", slowed)
    work, plan = _prepared(pocket, picture, 3), MeasurePlan(3, warmup=0, rounds=6)
    report = make_report(work, plan, _measure(work, plan), seed=0)
    from reroute_cli.console.output import to_json

    dense, routed = checked(to_json(report.as_dict())).arms
    assert routed.metrics["tpot"].min >= nap
    assert routed.metrics["tpot"].p50 - dense.metrics["tpot"].p50 > nap / 2
    assert routed.ratios["tpot"].low > 1
    said = " ".join(warnings(report, verbose=False))
    assert "slower than dense: " in said
    assert "pdrop prune, TPOT " in said


def test_nothing_is_written_while_measuring(pocket, picture, capfd):
    """The loop itself says nothing on either stream."""
    work = _prepared(pocket, picture, 2)
    from reroute_cli.models.load import quiet_libraries

    with quiet_libraries():
        _measure(work, MeasurePlan(2, warmup=1, rounds=1))
    assert capfd.readouterr() == ("", "")


def test_both_arms_get_the_very_same_inputs(monkeypatch):
    """An item goes to the device once a pass, and its arms share the tensors."""
    moved = []
    Recorder(monkeypatch)
    monkeypatch.setattr(run, "on_device", lambda inputs, model: moved.append(inputs["item"]) or inputs)
    _measure(_work(), MeasurePlan(4, warmup=0, rounds=1))
    assert moved == ["a", "b"] * 4
