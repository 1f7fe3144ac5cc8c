"""The passes of one answer: what runs in each, and what a GPU would add."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from reroute_cli import run
from reroute_cli.answer import Asked, _memory_part, answer
from reroute_cli.errors import Failure
from reroute_cli.images import open_picture
from reroute_cli.prompts import build_prompt
from reroute_cli.schedules import ScheduleChoice
from routing import Schedule, Stage


@pytest.fixture
def job(pocket, picture):
    """A routed question for the embedded model."""
    prompt = build_prompt(pocket.processor, [open_picture(picture)], "where is the cup?")
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


def test_without_a_gpu_every_gpu_peak_has_a_reason(job):
    """Four unknowns, four reasons, and the host's own peak."""
    found = run.memory_pass(job, 2)
    assert set(found.peaks.values()) == {None}
    assert set(found.reasons) == set(found.peaks)
    assert found.host


def test_on_a_gpu_the_peaks_are_those_of_the_pass(job, monkeypatch):
    """torch's peaks and NVML's are taken around one generation and reach the record by their names."""
    order = []

    class Sampler:
        def __init__(self, uuid):
            assert uuid == "abc"
            self.process, self.device, self.reasons = None, 40, {"process": "hidden"}

        def __enter__(self):
            order.append("sample")
            return self

        def __exit__(self, *_):
            order.append("stop")

    gpu = SimpleNamespace(**{**vars(job.loaded), "device": "cuda"})
    monkeypatch.setattr(run, "NvmlSampler", Sampler)
    monkeypatch.setattr(run, "reset_torch_peaks", lambda device: order.append("reset"))
    monkeypatch.setattr(run, "torch_peaks", lambda device: (10, 20))
    monkeypatch.setattr(run, "_generate", lambda *_, **__: order.append("generate"))
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: SimpleNamespace(uuid="abc"))
    found = run.memory_pass(run.Job(gpu, job.inputs, job.schedule), 2)
    assert order == ["reset", "sample", "generate", "stop"]
    part = _memory_part(job.loaded, found)
    assert (part.torch_peak_allocated_bytes, part.torch_peak_reserved_bytes) == (10, 20)
    assert (part.nvml_process_peak_bytes, part.nvml_device_peak_bytes) == (None, 40)
    assert part.reasons == {"nvml_process_peak_bytes": "hidden"}


def test_an_attention_nobody_can_count_gives_unknown_flops(job, pocket):
    """External kernels are invisible to the counter: null and why, not a number that is too low."""
    from reroute_cli.answer import _flops_part

    flash = SimpleNamespace(**{**vars(pocket), "attention": "flash_attention_2"})
    part = _flops_part(run.Job(flash, job.inputs, job.schedule), 4)
    assert part.prefill is None
    assert "flash_attention_2" in part.reasons["prefill"]


def test_a_prompt_without_visual_tokens_is_refused(pocket, picture):
    """A config whose image token is not the processor's would be measured as if it were routed."""
    other = replace(pocket, image_token_ids=(10**9,))
    with pytest.raises(Failure, match="no visual tokens"):
        answer(other, Asked([open_picture(picture)], "where is the cup?", 2), ScheduleChoice())
