"""The passes of one answer: what runs in each, and what a GPU would add."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from reroute_cli.console.errors import Failure
from reroute_cli.data.images import (
    open_image,
)
from reroute_cli.data.prompts import build_prompt
from reroute_cli.measure import passes as run
from reroute_cli.run.answer import (
    _memory_part,
    answer,
)
from reroute_cli.run.schedules import ScheduleChoice
from routing import Schedule, Stage


@pytest.fixture
def job(pocket, picture):
    """A routed question for the embedded model."""
    prompt = build_prompt(pocket.processor, [open_image(picture)], "where is the cup?")
    return run.make_job(pocket, prompt, Schedule((Stage(2, 0.5),)), 4)


def test_nothing_counts_while_the_clock_runs(job, monkeypatch):
    """The timed pass enters no dispatch mode and reads no memory."""
    from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

    seen = []
    hook = job.loaded.model.register_forward_pre_hook(
        lambda *_: seen.append(len(_get_current_dispatch_mode_stack()))
    )
    monkeypatch.setattr(run, "NvmlSampler", lambda *_: pytest.fail("sampled"))
    try:
        run.timed_pass(job, 4)
    finally:
        hook.remove()
    assert set(seen) == {0}


def test_the_counting_pass_has_the_length_of_the_timed_one(job):
    """Forced to the same number of tokens, it decodes exactly as often, also beyond an end token."""
    forwards = []
    hook = job.loaded.model.register_forward_pre_hook(lambda *_: forwards.append(1))
    try:
        run.count_flops(job, 6)
    finally:
        hook.remove()
    assert len(forwards) == 6


def test_the_dense_pass_is_dense_and_stops_at_the_first_token(job):
    """Its prefill costs more than the routed one, without scoring and without decode."""
    routed, dense = run.count_flops(job, 1), run.count_dense_prefill(job)
    assert dense.prefill > routed.prefill
    assert (dense.scoring, dense.decode) == (0, 0)
    assert dense.vision == routed.vision


def test_a_forced_answer_has_its_length_and_adds_up(job):
    """Six tokens, beyond an end token too; parts sum to the whole, and rates follow from it."""
    forwards = []
    hook = job.loaded.model.register_forward_pre_hook(lambda *_: forwards.append(1))
    try:
        times = run.forced_pass(job, 6)
    finally:
        hook.remove()
    assert len(forwards) == 6
    assert times.vision + times.prefill == pytest.approx(times.ttft)
    assert times.ttft + times.decode == pytest.approx(times.e2e)
    assert times.tpot == pytest.approx(times.decode / 5)
    assert times.output_rate == pytest.approx(6 / times.e2e)


def test_one_forced_token_has_nothing_after_it(job):
    """TPOT and decode of a single token are unknown, not a tiny number."""
    times = run.forced_pass(job, 1)
    assert (times.tpot, times.decode) == (None, None)


def test_the_cache_after_one_token_is_that_of_the_prompt(job):
    """The first new token comes out of the prefill; each further one adds a column to every layer."""
    length = job.inputs["input_ids"].shape[1]
    prefill, end = run.cache_pass(job, 1), run.cache_pass(job, 5)
    assert prefill.tokens == (length,) * 2 + (length - 128,) * 10
    assert end.tokens == tuple(count + 4 for count in prefill.tokens)


def test_only_the_call_itself_is_timed(job, monkeypatch):
    """Hooking the schedule in and out is not part of an answer's time."""
    import contextlib
    import time

    route = run.routing.route

    @contextlib.contextmanager
    def slow(model, schedule, **options):
        time.sleep(0.5)
        with route(model, schedule, **options) as trace:
            yield trace
        time.sleep(0.5)

    run.forced_pass(job, 1)
    monkeypatch.setattr(run.routing, "route", slow)
    start = time.perf_counter()
    times = run.forced_pass(job, 1)
    assert times.e2e < time.perf_counter() - start - 0.99


def test_without_a_gpu_every_gpu_number_has_a_reason(job):
    """Five unknowns, five reasons, and the host's own peak."""
    found = run.memory_pass(job, 2)
    assert set(found.peaks.values()) == {found.energy} == {None}
    assert set(found.reasons) == {*found.peaks, "energy"}
    assert found.host


class Gpu:
    """A GPU as a memory pass sees it: what happens in which order; an answer takes 0.4 s."""

    def __init__(self, monkeypatch, reasons):
        self.order, self.now = [], 0.0
        gpu = self

        class Sampler:
            def __init__(self, uuid):
                assert uuid == "abc"
                self.process, self.device, self.reasons = None, 40, reasons
                self.energy = None if "energy" in reasons else 9.0

            def __enter__(self):
                gpu.order.append("sample")
                return self

            def __exit__(self, *_):
                gpu.order.append("stop")

        def generate(*_, **__):
            self.order.append("generate")
            self.now += 0.4

        monkeypatch.setattr(run, "NvmlSampler", Sampler)
        monkeypatch.setattr(run, "perf_counter", lambda: self.now)
        monkeypatch.setattr("torch.cuda.synchronize", lambda device: None)
        monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", lambda device: self.order.append("reset"))
        monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda device: 10)
        monkeypatch.setattr("torch.cuda.max_memory_reserved", lambda device: 20)
        monkeypatch.setattr(run, "_generate", generate)
        monkeypatch.setattr("torch.cuda.empty_cache", lambda: self.order.append("empty"))
        monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: SimpleNamespace(uuid="abc"))


def _on_gpu(job):
    return run.Job(SimpleNamespace(**{**vars(job.loaded), "device": "cuda"}), job.inputs, job.schedule)


def test_on_a_gpu_the_peaks_are_those_of_the_pass(job, monkeypatch):
    """The allocator is emptied first; torch's peaks and NVML's reach the record by their names."""
    gpu = Gpu(monkeypatch, {"process": "hidden", "energy": "no counter"})
    found = run.memory_pass(_on_gpu(job), 2)
    assert gpu.order == ["empty", "sample", "reset", "generate", "generate", "generate", "stop"]
    part = _memory_part(job.loaded, found)
    assert (part.torch_peak_allocated_bytes, part.torch_peak_reserved_bytes) == (10, 20)
    assert (part.nvml_process_peak_bytes, part.nvml_device_peak_bytes) == (None, 40)
    assert part.reasons == {"nvml_process_peak_bytes": "hidden"}


def test_energy_is_that_of_one_answer(job, monkeypatch):
    """Three answers fill the second that a coarse counter needs: 9 joules are 3 each."""
    Gpu(monkeypatch, {"process": "hidden"})
    assert run.memory_pass(_on_gpu(job), 2).energy == 3.0


def test_an_attention_nobody_can_count_gives_unknown_flops(job, pocket):
    """External kernels are invisible to the counter: null and why, not a number that is too low."""
    from reroute_cli.run.answer import _flops_part

    flash = SimpleNamespace(**{**vars(pocket), "attention": "flash_attention_2"})
    uncounted = run.Job(flash, job.inputs, job.schedule)
    part = _flops_part(uncounted, uncounted, 4)
    assert part.prefill_flops is None
    assert "flash_attention_2" in part.reasons["prefill_flops"]


def test_a_prompt_without_visual_tokens_is_refused(pocket, picture):
    """A config whose image token is not the processor's would be measured as if it were routed."""
    other = replace(pocket, image_token_ids=(10**9,))
    with pytest.raises(Failure, match="no visual tokens"):
        answer(other, [open_image(picture)], "where is the cup?", ScheduleChoice(), 2)
