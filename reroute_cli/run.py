"""Running one question under one schedule, as often as there are kinds of things to measure.

A pass measures one kind: the clock runs first and alone, FLOPs are counted in a second pass of the same
length, dense FLOPs in a third that stops at the first token, GPU memory in a fourth where there is a GPU.
Decoding is greedy, so all passes do the same work. Does not know records, options or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

import routing
from reroute_cli.errors import Failure
from reroute_cli.measure.clock import TokenClock
from reroute_cli.measure.flops import FlopMeter, Flops
from reroute_cli.measure.kv import KvUse, measure_kv
from reroute_cli.measure.memory import host_peak_rss, reset_torch_peaks, torch_peaks
from reroute_cli.measure.nvml import NvmlSampler
from reroute_cli.models import Loaded
from reroute_cli.prompts import Prompt
from routing import RouteTrace, Schedule


@dataclass(frozen=True)
class Stage:
    """One reduction as the trace shows it for the one sample there is."""

    layer: int
    kept: int
    reentered: int


@dataclass(frozen=True)
class TimedPass:
    """The answer, its trace, its cache and its clock. new: token ids that were generated.

    cut: the answer was as long as allowed and did not end with an end token.
    """

    new: tuple[int, ...]
    cut: bool
    stages: tuple[Stage, ...]
    kv: KvUse
    clock: TokenClock


@dataclass(frozen=True)
class MemoryPass:
    """Peaks in bytes or None; reasons say why None. Keys: allocated, reserved, process, device."""

    peaks: dict[str, int | None]
    reasons: dict[str, str]
    host: int | None


@dataclass(frozen=True)
class Job:
    """What all passes share."""

    loaded: Loaded
    inputs: dict[str, Any]
    schedule: Schedule


def make_job(loaded: Loaded, prompt: Prompt, schedule: Schedule, max_new_tokens: int) -> Job:
    """The prompt on the model's device; raises Failure when it is longer than the model's context."""
    text = loaded.model.config.get_text_config()
    limit = getattr(text, "max_position_embeddings", None)
    if limit and prompt.tokens + max_new_tokens > limit:
        raise Failure(
            f"the prompt has {prompt.tokens} tokens and {max_new_tokens} new ones may follow, but "
            f"'{loaded.name}' reads {limit}: use fewer pictures, a shorter question or --max-new-tokens"
        )
    return Job(loaded, _on_device(prompt.inputs, loaded.model), schedule)


def timed_pass(job: Job, max_new_tokens: int) -> TimedPass:
    """Answer once with nothing but the clock attached."""
    clock = TokenClock(job.loaded.device)
    with clock:
        output, trace = _generate(job, max_new_tokens, [clock])
    new = tuple(output.sequences[0, job.inputs["input_ids"].shape[1] :].tolist())
    stages = tuple(Stage(s.layer, len(s.kept[0]), len(s.reentered[0])) for s in trace.stages)
    cut = len(new) == max_new_tokens and new[-1] not in _end_tokens(job.loaded.model)
    return TimedPass(new, cut, stages, measure_kv(output.past_key_values), clock)


def count_flops(job: Job, new_tokens: int) -> Flops:
    """Answer again with the operator counter attached, at exactly this many new tokens."""
    meter = FlopMeter(job.loaded.model)
    with meter:
        _generate(job, new_tokens, [meter.first_token], least=new_tokens)
    return meter.flops


def count_dense_prefill(job: Job) -> Flops:
    """Vision and prefill FLOPs of the same prompt with no schedule."""
    return count_flops(Job(job.loaded, job.inputs, Schedule()), 1)


def memory_pass(job: Job, new_tokens: int) -> MemoryPass:
    """GPU peaks of one more answer of the same length; without a GPU there is only the host's peak."""
    device = job.loaded.device
    if not device.startswith("cuda"):
        reason = "no CUDA GPU in use"
        names = ("allocated", "reserved", "process", "device")
        return MemoryPass(dict.fromkeys(names), dict.fromkeys(names, reason), host_peak_rss())
    reset_torch_peaks(device)
    uuid = str(torch.cuda.get_device_properties(torch.device(device)).uuid)
    with NvmlSampler(uuid) as sampler:
        _generate(job, new_tokens, [], least=new_tokens)
        allocated, reserved = torch_peaks(device)
    peaks = {
        "allocated": allocated,
        "reserved": reserved,
        "process": sampler.process,
        "device": sampler.device,
    }
    return MemoryPass(peaks, dict(sampler.reasons), host_peak_rss())


def _generate(
    job: Job, most: int, criteria: Sequence[StoppingCriteria], *, least: int = 0
) -> tuple[Any, RouteTrace]:
    """Greedy generation under the job's schedule; `least` forces a length."""
    tokenizer = job.loaded.processor.tokenizer
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    with routing.route(job.loaded.model, job.schedule) as trace:
        output = job.loaded.model.generate(
            **job.inputs,
            do_sample=False,
            num_beams=1,
            max_new_tokens=most,
            min_new_tokens=least,
            pad_token_id=pad,
            stopping_criteria=StoppingCriteriaList(criteria),
            return_dict_in_generate=True,
        )
    return output, trace


def _end_tokens(model: Any) -> set[int]:
    """Ids that end an answer."""
    ends = model.generation_config.eos_token_id
    return set(ends) if isinstance(ends, list) else {ends}


def _on_device(inputs: dict[str, Any], model: Any) -> dict[str, Any]:
    """Tensors on the model's device; floating ones in its dtype."""
    moved = {}
    for name, value in inputs.items():
        if not isinstance(value, torch.Tensor):
            moved[name] = value
        elif value.is_floating_point():
            moved[name] = value.to(model.device, model.dtype)
        else:
            moved[name] = value.to(model.device)
    return moved
