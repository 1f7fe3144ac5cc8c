"""The clock, against a generation whose every step takes a known time."""

import pytest
import torch

from reroute_cli.measure import clock as module
from reroute_cli.measure.clock import TokenClock


class Time:
    """A perf_counter that moves only when told to."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(module, "perf_counter", lambda: self.now)

    def sleep(self, seconds):
        self.now += seconds


def test_marks_become_ttft_tpot_and_end_to_end(monkeypatch):
    """Prefill 0.5 s, three more tokens of 0.2 s, 0.1 s to return: the clock says exactly that."""
    time = Time(monkeypatch)
    clock = TokenClock("cpu")
    with clock:
        for step in (0.5, 0.2, 0.2, 0.2):
            time.sleep(step)
            clock(torch.zeros(1, 3, dtype=torch.long), None)
        time.sleep(0.1)
    assert clock.tokens == 4
    assert clock.ttft == pytest.approx(0.5)
    assert clock.end_to_end == pytest.approx(1.2)
    assert clock.tpot == pytest.approx(0.7 / 3)


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
    from reroute_cli import run
    from reroute_cli.images import open_picture
    from reroute_cli.prompts import build_prompt
    from routing import Schedule

    prompt = build_prompt(pocket.processor, [open_picture(picture)], "where is the cup?")
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


def test_on_a_gpu_the_marks_are_events_on_the_model_s_device(monkeypatch):
    """CUDA events are recorded on the device's own stream, and read after one synchronisation at the end."""
    now, calls = [0.0], []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self, stream):
            self.stream, self.at = stream, now[0]

        def elapsed_time(self, later):
            assert calls[-1] == ("synchronize", "cuda:1")
            return (later.at - self.at) * 1e3

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: ("stream", device))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: calls.append(("synchronize", device)))
    clock = TokenClock("cuda:1")
    with clock:
        for step in (0.5, 0.25):
            now[0] += step
            clock(torch.zeros(1, 3, dtype=torch.long), None)
    assert (clock.ttft, clock.end_to_end, clock.tpot) == pytest.approx((0.5, 0.75, 0.25))
    assert len(calls) == 2
