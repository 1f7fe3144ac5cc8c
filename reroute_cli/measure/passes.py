"""Running one question under one schedule, as often as there are kinds of things to measure.

A pass is one answer, and measures one kind of thing: the clock, operators (FLOPs), the cache, or GPU memory
and energy. Decoding is greedy, so all passes do the same work. Dense passes run the model without a hook of
the engine, but for those at the vision tower where a job has features of images that were encoded before.
Does not know records, options or files, nor in which order passes run.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from statistics import fmean
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

import routing
from reroute_cli.console.errors import Failure
from reroute_cli.measure.clock import TokenClock
from reroute_cli.measure.flops import FlopMeter, Flops
from reroute_cli.measure.memory import KvUse, NvmlSampler, TorchPeaks, host_peak_rss, measure_kv
from reroute_cli.models.logits import row_by_row
from reroute_cli.models.rows import without_ended_rows
from routing import RouteTrace, Schedule
from routing.host import cache_of
from routing.vision import Features, encode_once

if TYPE_CHECKING:
    from reroute_cli.data.prompts import Prompt
    from reroute_cli.models.load import Loaded

COUNTED = ("sdpa", "eager")  # attention whose operators the FLOP counter can see
PEAKS = ("allocated", "reserved", "process", "device")  # whose bytes a memory pass tells
ENERGY_SECONDS = 1.0  # several periods of the slowest energy counters
NO_GPU = "no CUDA GPU in use"
FORCED = {"exponential_decay_length_penalty": None}  # raises even an end that a forced length forbids


@dataclass(frozen=True)
class StageCounts:
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
    stages: tuple[StageCounts, ...]
    kv: KvUse
    clock: TokenClock


@dataclass(frozen=True)
class SampleAnswer:
    """One sample's answer in a batch: its new token ids, whether it was cut, and what its trace shows."""

    new: tuple[int, ...]
    cut: bool
    stages: tuple[StageCounts, ...]


@dataclass(frozen=True)
class TimedRows:
    """The answers of a batch, the clock of the whole batch, and the cache of those that ended last."""

    rows: tuple[SampleAnswer, ...]
    cache: Any
    clock: TokenClock


@dataclass(frozen=True)
class Times:
    """One timed pass whose answers have a forced length, in seconds, by the names of the metrics.

    requests: prompts of the pass; the times of each are those of the pass. itl: the gap before every token
    but the first. tpot, decode: None for one token, which nothing follows. output_rate, request_rate: tokens
    and requests of the whole pass per second of it.
    """

    requests: int
    ttft: float
    itl: tuple[float, ...]
    tpot: float | None
    e2e: float
    vision: float
    prefill: float
    decode: float | None
    output_rate: float
    request_rate: float

    def meets(self, objectives: Mapping[str, float]) -> bool:
        """Whether none of these is exceeded: ttft, tpot, e2e, and for itl the mean of the gaps, in seconds.

        What is judged is one request, so no percentile: GenAI-Perf's inter_token_latency and vLLM's tpot are
        such means, too. Objectives on itl and tpot need two tokens.
        """
        found = {"ttft": self.ttft, "tpot": self.tpot, "e2e": self.e2e}
        found["itl"] = fmean(self.itl) if self.itl else None
        return all((value := found[name]) is not None and value <= most for name, most in objectives.items())


@dataclass(frozen=True)
class MemoryPass:
    """Peaks in bytes by the names of PEAKS, and energy in joules; None where `reasons` says why."""

    peaks: dict[str, int | None]
    energy: float | None
    reasons: dict[str, str]
    host: int | None


@dataclass(frozen=True)
class Job:
    """What all passes share: a model, inputs on its device, a schedule.

    share_prefix: the prompts begin with the same images, which are computed once: see `routing.route`.
    features: of images that the vision tower need not run for again; None where it always runs.
    """

    loaded: Loaded
    inputs: dict[str, Any]
    schedule: Schedule
    share_prefix: bool = False
    features: Features | None = None


def make_job(loaded: Loaded, prompt: Prompt, schedule: Schedule, max_new_tokens: int) -> Job:
    """The prompt on the model's device; raises Failure when it is longer than the model's context."""
    check_context(loaded, prompt, max_new_tokens)
    return Job(loaded, on_device(prompt.inputs, loaded.model), schedule)


def check_context(loaded: Loaded, prompt: Prompt, max_new_tokens: int) -> None:
    """Refuse a prompt that the model's positions do not reach to the end of (raises Failure)."""
    text = loaded.model.config.get_text_config()
    limit = getattr(text, "max_position_embeddings", None)
    if limit and prompt.tokens + max_new_tokens > limit:
        raise Failure(
            f"the prompt has {prompt.tokens} tokens and {max_new_tokens} new ones may follow, but "
            f"'{loaded.name}' reads {limit}: use fewer images, a shorter question or --max-new-tokens"
        )


def timed_pass(job: Job, max_new_tokens: int) -> TimedPass:
    """Answer once, as long as the model likes, with nothing but the clock attached."""
    timed = timed_rows(job, max_new_tokens)
    (row,) = timed.rows
    return TimedPass(row.new, row.cut, row.stages, measure_kv(timed.cache), timed.clock)


def timed_rows(job: Job, max_new_tokens: int) -> TimedRows:
    """Answer every sample of a batch once; a row ends with its own end token and leaves the batch with it."""
    clock = TokenClock(job.loaded.device)
    output, trace = _generate(job, max_new_tokens, [clock], around=clock)
    answers = output.sequences[:, job.inputs["input_ids"].shape[1] :].tolist()
    ends = _end_tokens(job.loaded.model)
    rows = tuple(_row(answer, ends, max_new_tokens, trace, index) for index, answer in enumerate(answers))
    return TimedRows(rows, cache_of(output), clock)


def _row(answer: list[int], ends: set[int], most: int, trace: RouteTrace, index: int) -> SampleAnswer:
    """What follows the first end token is filler of a batch that went on."""
    length = next((place + 1 for place, token in enumerate(answer) if token in ends), len(answer))
    new = tuple(answer[:length])
    stages = tuple(StageCounts(s.layer, len(s.kept[index]), len(s.reentered[index])) for s in trace.stages)
    return SampleAnswer(new, len(new) == most and new[-1] not in ends, stages)


def traced_pass(job: Job, max_new_tokens: int) -> tuple[SampleAnswer, RouteTrace]:
    """Answer once with nothing attached, and say which visual tokens the schedule kept at each stage."""
    output, trace = _generate(job, max_new_tokens, [])
    answer = output.sequences[0, job.inputs["input_ids"].shape[1] :].tolist()
    return _row(answer, _end_tokens(job.loaded.model), max_new_tokens, trace, 0), trace


def forced_pass(job: Job, new_tokens: int) -> Times:
    """Answer every prompt with exactly this many tokens; only the clock, parts of the prefill apart, runs."""
    clock = TokenClock(job.loaded.device, job.loaded.model)
    _generate(job, new_tokens, [clock], least=new_tokens, around=clock)
    assert clock.tokens == new_tokens, f"{clock.tokens} tokens, not {new_tokens}"
    requests = len(job.inputs["input_ids"])
    return Times(
        requests=requests,
        ttft=clock.ttft,
        itl=clock.gaps,
        tpot=clock.tpot,
        e2e=clock.end_to_end,
        vision=clock.vision,
        prefill=clock.prefill,
        decode=clock.decode if new_tokens > 1 else None,
        output_rate=requests * new_tokens / clock.end_to_end,
        request_rate=requests / clock.end_to_end,
    )


def count_flops(job: Job, new_tokens: int) -> Flops:
    """Answer again with the operator counter attached, at exactly this many new tokens."""
    meter = FlopMeter(job.loaded.model)
    with meter:
        _generate(job, new_tokens, [meter.first_token], least=new_tokens)
    return meter.flops


def count_dense_prefill(job: Job) -> Flops:
    """Vision and prefill FLOPs of the same prompt with no schedule."""
    return count_flops(Job(job.loaded, job.inputs, Schedule()), 1)


def cache_pass(job: Job, new_tokens: int) -> KvUse:
    """The cache after exactly this many new tokens; after one it holds the prompt and nothing else."""
    output, _ = _generate(job, new_tokens, [], least=new_tokens)
    return measure_kv(cache_of(output))


def memory_pass(job: Job, new_tokens: int) -> MemoryPass:
    """GPU peaks and energy of an answer of this length; without a GPU there is only the host's peak.

    What earlier answers left in torch's allocator goes back to the driver first: it would count as theirs.
    The answer is given again for about a second, because energy counters are coarse; energy is that of one.
    """
    device = job.loaded.device
    if not device.startswith("cuda"):
        reasons = dict.fromkeys((*PEAKS, "energy"), NO_GPU)
        return MemoryPass(dict.fromkeys(PEAKS), None, reasons, host_peak_rss())
    gc.collect()
    torch.cuda.empty_cache()
    gpu = torch.cuda.get_device_properties(torch.device(device))
    uuid = str(gpu.uuid) if hasattr(gpu, "uuid") else None
    answers, start = 0, perf_counter()
    with NvmlSampler(uuid) as sampler, TorchPeaks(device) as torch_peaks:
        while not answers or perf_counter() - start < ENERGY_SECONDS:
            _generate(job, new_tokens, [], least=new_tokens)
            answers += 1
    found = (torch_peaks.allocated, torch_peaks.reserved, sampler.process, sampler.device)
    peaks = dict(zip(PEAKS, found, strict=True))
    energy = None if sampler.energy is None else sampler.energy / answers
    return MemoryPass(peaks, energy, dict(sampler.reasons), host_peak_rss())


def uncounted(kernels: str) -> str:
    """Why FLOPs are unknown where these attention kernels ran."""
    return f"the FLOP counter has no formula for {kernels}; use --attn sdpa"


def _generate(
    job: Job,
    most: int,
    criteria: Sequence[StoppingCriteria],
    *,
    least: int = 0,
    around: TokenClock | None = None,
) -> tuple[Any, RouteTrace]:
    """Greedy generation under the job's schedule; `least` forces a length, `around` times the call alone."""
    if job.loaded.refusal is not None and job.schedule.entries:
        raise Failure(job.loaded.refusal)
    forced = FORCED | {"min_new_tokens": least} if least else {}
    model, several = job.loaded.model, len(job.inputs["input_ids"]) > 1
    with (
        row_by_row(job.loaded, job.inputs),
        nullcontext() if job.features is None else encode_once(model, job.features),
        routing.route(model, job.schedule, share_prefix=job.share_prefix) as trace,
        without_ended_rows(model, _end_tokens(model)) if several else nullcontext(),
        around or nullcontext(),
    ):
        output = model.generate(
            **job.inputs,
            do_sample=False,
            num_beams=1,
            max_new_tokens=most,
            **forced,
            pad_token_id=pad_token(job.loaded),
            stopping_criteria=StoppingCriteriaList(criteria),
            return_dict_in_generate=True,
        )
    made = output.sequences.shape[1] - job.inputs["input_ids"].shape[1]
    if made < least:
        raise Failure(
            f"the generation settings of '{job.loaded.name}' end an answer after {made} of {least} tokens "
            "to be measured: use --generation neutral"
        )
    return output, trace


def pad_token(loaded: Loaded) -> int:
    """The id that fills what no sample has."""
    tokenizer = loaded.processor.tokenizer
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)


def _end_tokens(model: Any) -> set[int]:
    """Ids that end an answer."""
    ends = model.generation_config.eos_token_id
    return set(ends) if isinstance(ends, list) else {ends}


def on_device(inputs: dict[str, Any], model: Any) -> dict[str, Any]:
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
