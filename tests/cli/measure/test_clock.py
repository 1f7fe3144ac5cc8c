"""The clock, against a generation whose every step takes a known time."""

from contextlib import contextmanager
from time import sleep

import pytest
import torch
from transformers import StoppingCriteriaList

from reroute_cli.measure import clock as module
from reroute_cli.measure.clock import TokenClock
from routing import Schedule, Stage, route
from routing.checks.runs import hooks as hooks_of
from routing.checks.subjects import ONE, tiny


class Time:
    """A perf_counter that moves only when told to."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(module, "perf_counter", lambda: self.now)

    def sleep(self, seconds):
        self.now += seconds


def ticked(monkeypatch, steps, after):
    """A clock whose tokens came so many seconds after one another, and the end so long after the last."""
    time, clock = Time(monkeypatch), TokenClock("cpu")
    with clock:
        for step in steps:
            time.sleep(step)
            clock(torch.zeros(1, 3, dtype=torch.long), None)
        time.sleep(after)
    return clock


def test_marks_become_ttft_tpot_and_end_to_end(monkeypatch):
    """Prefill 0.5 s, three more tokens of 0.2 s, 0.1 s to return: the clock says exactly that."""
    clock = ticked(monkeypatch, (0.5, 0.2, 0.2, 0.2), after=0.1)
    assert clock.tokens == 4
    assert clock.ttft == pytest.approx(0.5)
    assert clock.end_to_end == pytest.approx(1.2)
    assert clock.tpot == pytest.approx(0.7 / 3)


def test_every_gap_is_its_own(monkeypatch):
    """Tokens after 0.5, 0.1, 0.4 and 0.2 s: the gaps are the last three, and what follows the end is none."""
    clock = ticked(monkeypatch, (0.5, 0.1, 0.4, 0.2), after=0.3)
    assert clock.gaps == pytest.approx((0.1, 0.4, 0.2))
    assert clock.ttft + sum(clock.gaps) + 0.3 == pytest.approx(clock.end_to_end)


def test_one_token_has_no_time_per_output_token(monkeypatch):
    """After a single token TPOT is unknown, not zero."""
    time = Time(monkeypatch)
    clock = TokenClock("cpu")
    with clock:
        time.sleep(0.3)
        clock(torch.zeros(1, 3, dtype=torch.long), None)
    assert clock.tpot is None
    assert clock.ttft == pytest.approx(0.3)


def test_the_clock_never_stops_a_generation():
    """It answers False for every sample of the batch."""
    answer = TokenClock("cpu")(torch.zeros(3, 5, dtype=torch.long), None)
    assert answer.tolist() == [False, False, False]


def test_a_real_generation_is_marked_once_a_token(pocket, picture, monkeypatch):
    """A model that sleeps 10 s in every forward (on a clock of ours) shows 10 s a token."""
    from reroute_cli.data.images import open_image
    from reroute_cli.data.prompts import build_prompt
    from reroute_cli.measure import passes as run
    from routing import Schedule

    prompt = build_prompt(pocket.processor, [open_image(picture)], "where is the cup?")
    job = run.make_job(pocket, prompt, Schedule(), 4)
    time = Time(monkeypatch)
    sleeping = pocket.model.register_forward_pre_hook(lambda *_: time.sleep(10))
    try:
        timed = run.timed_pass(job, 4)
    finally:
        sleeping.remove()
    tokens = len(timed.new)
    assert timed.clock.tokens == tokens
    assert timed.clock.ttft == pytest.approx(10)
    assert timed.clock.end_to_end == pytest.approx(10 * tokens)
    assert timed.clock.tpot == pytest.approx(10 if tokens > 1 else None)


@contextmanager
def acting(*hooks):
    """Let each module run its function before its forward: (module, function of the module's arguments)."""

    def hook(act):
        return lambda _module, args, kwargs: act(args, kwargs)

    handles = [m.register_forward_pre_hook(hook(act), with_kwargs=True) for m, act in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def by_length(act, prefill, decode):
    """What a decoder layer's hook does: take `prefill` for a prompt and `decode` for one token."""

    def take(args, kwargs):
        hidden = args[0] if args else kwargs["hidden_states"]
        act(prefill if hidden.shape[1] > 1 else decode)

    return take


def answer(model, inputs, clock, new=3):
    """Time `new` greedy tokens."""
    with clock:
        model.generate(
            **inputs, do_sample=False, max_new_tokens=new, stopping_criteria=StoppingCriteriaList([clock])
        )
    return clock


@pytest.mark.parametrize("action", [None, "prune", "reroute"])
@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", "qwen3_vl", "smolvlm", "paligemma", "internvl"])
def test_vision_prefill_and_decode_are_told_apart(family, action, monkeypatch):
    """Before the decoder: vision; until the first token: prefill; the rest: decode. Dense or routed."""
    subject, time = tiny(family), Time(monkeypatch)
    model = subject.model
    hooks = (
        (model.get_input_embeddings(), lambda *_: time.sleep(3)),  # before the decoder, in every family
        (model.get_decoder().layers[0], by_length(time.sleep, 7, 2)),
        (model.get_output_embeddings(), lambda *_: time.sleep(0.5)),
    )
    stages = (Stage(2, 0.5),) if action else ()
    with acting(*hooks), route(model, Schedule(stages, action or "prune")):
        clock = answer(model, subject.inputs(ONE), TokenClock("cpu", model))
    assert clock.tokens == 3
    assert (clock.vision, clock.prefill) == pytest.approx((3, 7.5))
    assert (clock.decode, clock.tpot) == pytest.approx((2 * 5.5, 5.5))
    assert clock.vision + clock.prefill == pytest.approx(clock.ttft)
    assert clock.ttft + clock.decode == pytest.approx(clock.end_to_end)


def test_a_model_that_really_sleeps_is_never_faster_than_its_sleep():
    """50 ms at the tower, 30 ms in the prefill and 20 ms a token are the least that the parts can show."""
    subject = tiny("llava")
    tower = next(m for n, m in subject.model.named_modules() if n.endswith("vision_tower"))
    layer = subject.model.get_decoder().layers[2]
    with acting((tower, lambda *_: sleep(0.05)), (layer, by_length(sleep, 0.03, 0.02))):
        clock = answer(subject.model, subject.inputs(ONE), TokenClock("cpu", subject.model))
    assert clock.vision >= 0.05
    assert clock.prefill >= 0.03
    assert clock.tpot >= 0.02
    assert clock.decode >= 0.04


def test_the_model_is_untouched_afterwards_also_by_an_exception():
    """The decoder's hook is gone after the block, after an exception in it, and in the second use too."""
    subject = tiny("llava")
    before, clock = hooks_of(subject.model), TokenClock("cpu", subject.model)
    assert answer(subject.model, subject.inputs(ONE), clock).tokens == 3
    assert hooks_of(subject.model) == before
    with pytest.raises(ZeroDivisionError), clock:  # noqa: PT012
        assert hooks_of(subject.model) != before
        _ = 1 / 0
    assert hooks_of(subject.model) == before
    assert answer(subject.model, subject.inputs(ONE), clock, new=2).tokens == 2


def test_a_clock_that_is_used_again_forgets_the_first_run(monkeypatch):
    """The second run's parts are its own, and a third one without the decoder has no vision."""
    subject, time = tiny("llava"), Time(monkeypatch)
    clock = TokenClock("cpu", subject.model)
    for seconds in (3, 5):
        with acting((subject.model.get_input_embeddings(), lambda *_, seconds=seconds: time.sleep(seconds))):
            answer(subject.model, subject.inputs(ONE), clock)
        assert (clock.vision, clock.ttft, clock.decode) == pytest.approx((seconds, seconds, 2 * seconds))
    with clock:
        clock(torch.zeros(1, 3, dtype=torch.long), None)
    with pytest.raises(RuntimeError, match="with the model"):
        _ = clock.vision


def test_what_was_not_timed_is_not_a_number():
    """Before the block, after an exception, without a token or a model, reading raises and says why."""
    clock = TokenClock("cpu")
    for name in ("ttft", "end_to_end", "vision", "prefill", "decode"):
        with pytest.raises(RuntimeError, match="timed"):
            getattr(clock, name)
    with clock:
        pass
    assert clock.end_to_end >= 0
    with pytest.raises(RuntimeError, match="stopping_criteria"):
        _ = clock.ttft
    with clock:
        clock(torch.zeros(1, 3, dtype=torch.long), None)
    with pytest.raises(RuntimeError, match="with the model"):
        _ = clock.vision
    with pytest.raises(ZeroDivisionError), clock:  # noqa: PT012
        clock(torch.zeros(1, 3, dtype=torch.long), None)
        _ = 1 / 0
    assert (clock.tokens, clock.tpot) == (0, None)
    with pytest.raises(RuntimeError, match="exception"):
        _ = clock.end_to_end


class Gpu:
    """A CUDA device whose clock moves only when told; it notes every call and lets no one wait in between."""

    def __init__(self, monkeypatch):
        gpu = self
        self.now, self.calls = 0.0, []

        class Event:
            def __init__(self, enable_timing):
                assert enable_timing

            def record(self, stream):
                assert stream == ("stream", "cuda:1")
                self.at = gpu.now
                gpu.calls.append("record")

            def elapsed_time(self, later):
                assert gpu.calls[-1] == "synchronize", "events are read before the device is done"
                return (later.at - self.at) * 1e3

        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: ("stream", device))
        monkeypatch.setattr(torch.cuda, "synchronize", self.synchronize)
        monkeypatch.setattr(module, "perf_counter", lambda: pytest.fail("the host's clock was read"))

    def synchronize(self, device):
        assert device == "cuda:1"
        self.calls.append("synchronize")

    def sleep(self, seconds):
        self.now += seconds


def test_on_a_gpu_the_marks_are_events_with_one_wait_at_either_end(monkeypatch):
    """Start, decoder, each token and the end are events on the device's stream; nothing waits in between."""
    subject, gpu = tiny("llava"), Gpu(monkeypatch)
    model = subject.model
    hooks = (
        (model.get_input_embeddings(), lambda *_: gpu.sleep(3)),
        (model.get_decoder().layers[0], by_length(gpu.sleep, 7, 2)),
    )
    with acting(*hooks):
        clock = answer(model, subject.inputs(ONE), TokenClock("cuda:1", model))
    assert gpu.calls == ["synchronize", *["record"] * 6, "synchronize"]
    assert (clock.vision, clock.prefill, clock.ttft) == pytest.approx((3, 7, 10))
    assert (clock.decode, clock.tpot, clock.end_to_end) == pytest.approx((10, 5, 20))
    assert clock.gaps == pytest.approx((5, 5))


def test_an_exception_on_a_gpu_is_not_hidden_by_waiting_for_it(monkeypatch):
    """A broken device would raise again while synchronising: after an exception nothing waits."""
    gpu = Gpu(monkeypatch)
    with pytest.raises(ZeroDivisionError), TokenClock("cuda:1"):
        _ = 1 / 0
    assert gpu.calls.count("synchronize") == 1
