"""One question about pictures, answered under one schedule, as a complete record.

The order of things: prompt, schedule, passes, record. Knows every part by its interface and none of their
insides; prints nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reroute_cli import run
from reroute_cli.batching.keys import answer_key, settings_of
from reroute_cli.boxes import CONVENTIONS, Box, decode_boxes, view_of
from reroute_cli.console.errors import Failure
from reroute_cli.environment import installed_version
from reroute_cli.images import Picture
from reroute_cli.measure.flops import Flops
from reroute_cli.measure.kv import KvUse
from reroute_cli.measure.memory import weights_bytes
from reroute_cli.models import Loaded
from reroute_cli.outcome import average_visual, stage_parts
from reroute_cli.prompts import Prompt, build_prompt
from reroute_cli.records.answer import (
    AnswerRecord,
    FlopsPart,
    KvPart,
    LatencyPart,
    MemoryPart,
    SchedulePart,
    TokensPart,
)
from reroute_cli.records.base import AdapterPart, EnvironmentPart, GenerationPart, ModelPart
from reroute_cli.schedules import DENSE, ScheduleChoice, Target
from reroute_cli.sources import POCKET
from routing import Schedule


@dataclass(frozen=True)
class Asked:
    """What is asked: pictures in prompt order, a question, and how long the answer may get."""

    pictures: Sequence[Picture]
    question: str
    max_new_tokens: int


def answer(loaded: Loaded, asked: Asked, choice: ScheduleChoice) -> AnswerRecord:
    """Answer, measure, and say what it cost; raises what the parts raise."""
    prompt, job, timed = _timed(loaded, asked, choice)
    schedule, visual = job.schedule, prompt.count(loaded.image_token_ids)
    memory = run.memory_pass(job, len(timed.new))
    text = text_of(loaded, timed)
    boxes, reasons = boxes_in(text, loaded, [picture.size for picture in asked.pictures], prompt)
    key = _key(loaded, asked, choice)
    return AnswerRecord(
        id=key,
        key=key,
        image=asked.pictures[0].path,
        images=[picture.path for picture in asked.pictures],
        question=asked.question,
        answer=text,
        boxes=boxes,
        model=model_part(loaded),
        environment=environment_part(loaded),
        generation=generation_part(loaded, asked.max_new_tokens),
        schedule=schedule_part(choice, schedule, timed.stages, visual, loaded.layers),
        tokens=TokensPart(
            visual_tokens=visual,
            visual_tokens_per_layer=average_visual(timed.stages, visual, loaded.layers),
            prompt_tokens=prompt.tokens,
            new_tokens=len(timed.new),
            finish="length" if timed.cut else "stop",
        ),
        flops=_flops_part(job, len(timed.new)),
        kv_cache=measured_kv(timed.kv),
        latency=_latency_part(prompt, timed),
        memory=_memory_part(loaded, memory),
        reasons=reasons,
    )


def answer_only(loaded: Loaded, asked: Asked, choice: ScheduleChoice) -> str:
    """The same answer with nothing counted: one pass, and no record."""
    return text_of(loaded, _timed(loaded, asked, choice)[2])


def text_of(loaded: Loaded, timed: run.TimedPass | run.Row) -> str:
    """The new tokens as text."""
    return str(loaded.processor.tokenizer.decode(timed.new, skip_special_tokens=True)).strip()


def count_visual(loaded: Loaded, prompt: Prompt) -> int:
    """Visual tokens of a prompt; raises Failure where there are none to reduce."""
    if visual := prompt.count(loaded.image_token_ids):
        return visual
    raise Failure(f"the processor of '{loaded.name}' made no visual tokens that its config knows of")


def _timed(loaded: Loaded, asked: Asked, choice: ScheduleChoice) -> tuple[Prompt, run.Job, run.TimedPass]:
    prompt = build_prompt(loaded.processor, asked.pictures, asked.question)
    schedule = choice.build(target_of(loaded, count_visual(loaded, prompt)))
    job = run.make_job(loaded, prompt, schedule, asked.max_new_tokens)
    return prompt, job, run.timed_pass(job, asked.max_new_tokens)


def target_of(loaded: Loaded, visual: int) -> Target:
    """What a schedule must fit: this model and this many visual tokens."""
    tower = getattr(loaded.model.config, "vision_config", None)
    kind = str(getattr(tower, "model_type", ""))
    return Target(loaded.layers, loaded.first_layer, visual, kind)


def boxes_in(
    text: str, loaded: Loaded, sizes: Sequence[tuple[int, int]], prompt: Prompt
) -> tuple[list[Box] | None, dict[str, str]]:
    """The boxes in an answer about pictures of these sizes, or None and why they can't be read."""
    if loaded.family not in CONVENTIONS:
        return None, {"boxes": f"{loaded.family} models have no published way to write a box"}
    if len(sizes) > 1:
        return None, {"boxes": "with several pictures an answer does not say which one a box is in"}
    view = view_of(loaded.family, loaded.processor.image_processor, prompt.inputs, sizes[0])
    return decode_boxes(text, loaded.family, view, sizes[0]), {}


def _key(loaded: Loaded, asked: Asked, choice: ScheduleChoice) -> str:
    settings = settings_of(loaded, choice, asked.max_new_tokens)
    return answer_key(settings, [picture.digest for picture in asked.pictures], asked.question)


def no_revision(loaded: Loaded) -> dict[str, str]:
    """Why a model has no revision, as the reason of a record; empty where it has one."""
    if loaded.revision:
        return {}
    which = "random weights have" if loaded.random else "a local folder records"
    return {"revision": f"{which} no revision"}


def environment_part(loaded: Loaded) -> EnvironmentPart:
    """What the engine ran on."""
    packages = {name: installed_version(name) for name in ("torch", "transformers")}
    return EnvironmentPart(proven=loaded.proven, packages=packages)


def generation_part(loaded: Loaded, max_new_tokens: int) -> GenerationPart:
    """How tokens are chosen."""
    return GenerationPart(**loaded.generation.recorded(max_new_tokens))


def adapter_part(loaded: Loaded) -> AdapterPart | None:
    """What was merged into the model."""
    merged = loaded.adapter
    if merged is None:
        return None
    return AdapterPart(base=merged.adapter.base, revision=merged.revision, digest=merged.digest)


def model_part(loaded: Loaded) -> ModelPart:
    """Which model it is; a folder is known by its name."""
    folder = Path(loaded.name).expanduser()
    in_folder = loaded.name != POCKET and folder.is_dir()
    return ModelPart(
        id=folder.resolve().name if in_folder else loaded.name,
        revision=loaded.revision,
        family=loaded.family,
        config_digest=loaded.config_digest,
        layers=loaded.layers,
        dtype=loaded.dtype,
        attention=loaded.attention,
        device=loaded.device,
        weights="random" if loaded.random else "loaded",
        processor_filled=dict(loaded.processor_filled),
        chat_template=loaded.chat_template,
        adapter=adapter_part(loaded),
        reasons=no_revision(loaded),
    )


def schedule_part(
    choice: ScheduleChoice, schedule: Schedule, stages: Sequence[run.Stage], visual: int, layers: int
) -> SchedulePart:
    """What was asked for, and what these stages made of it."""
    asked = choice.asked_ratio(visual)
    reasons = {}
    if choice.profile is not None:
        reasons = {
            "method": "the schedule comes from a profile",
            "ratio": "a profile gives keep ratios, not a ratio",
        }
    average = average_visual(stages, visual, layers)
    return SchedulePart(
        method=None if choice.profile else choice.method or DENSE,
        action=str(schedule.action),
        profile=choice.profile,
        ratio=asked,
        achieved_ratio=1 - average / visual if visual else 0.0,
        digest=schedule.digest(),
        stages=stage_parts(schedule, stages),
        reasons=reasons,
    )


def _flops_part(job: run.Job, new_tokens: int) -> FlopsPart:
    """Counted FLOPs of this run and of the dense prefill; None where the counter can't see the kernels."""
    names = tuple(name for name in FlopsPart.model_fields if name.endswith("flops"))
    values: dict[str, Any] = dict.fromkeys(names)
    attention = job.loaded.attention
    if attention not in run.COUNTED:
        return FlopsPart(**values, **_MEASURED, reasons=_uncounted(names, attention))
    flops = run.count_flops(job, new_tokens)
    dense = run.count_dense_prefill(job) if job.schedule.entries else flops
    if unknown := flops.unknown | dense.unknown:
        return FlopsPart(**values, **_MEASURED, reasons=_uncounted(names, ", ".join(sorted(unknown))))
    return FlopsPart(**_by_name(flops, dense))


_MEASURED: dict[str, Any] = {"source": "measured", "dense_source": "measured"}


def _by_name(flops: Flops, dense: Flops) -> dict[str, Any]:
    return _MEASURED | {
        "vision_flops": flops.vision,
        "prefill_flops": flops.prefill + flops.scoring,
        "scoring_flops": flops.scoring,
        "decode_flops": flops.decode,
        "dense_vision_flops": dense.vision,
        "dense_prefill_flops": dense.prefill,
    }


def _uncounted(names: Sequence[str], kernels: str) -> dict[str, str]:
    return dict.fromkeys(names, run.uncounted(kernels))


def measured_kv(kv: KvUse) -> KvPart:
    """A cache as it was found."""
    return KvPart(
        kv_end_bytes=kv.total_bytes,
        source="measured",
        dense_kv_end_bytes=kv.dense_bytes,
        dense_source="estimated",
        logical_tokens=kv.logical,
        per_layer_tokens=list(kv.tokens),
    )


def _latency_part(prompt: Prompt, timed: run.TimedPass) -> LatencyPart:
    tpot = timed.clock.tpot
    return LatencyPart(
        preprocess_s=prompt.seconds,
        ttft_s=timed.clock.ttft,
        tpot_s=tpot,
        e2e_s=timed.clock.end_to_end,
        warmup=0,
        runs=1,
        reasons={} if tpot is not None else {"tpot_s": "there is only one new token"},
    )


def _memory_part(loaded: Loaded, memory: run.MemoryPass) -> MemoryPart:
    fields = {
        "allocated": "torch_peak_allocated_bytes",
        "reserved": "torch_peak_reserved_bytes",
        "process": "nvml_process_peak_bytes",
        "device": "nvml_device_peak_bytes",
    }
    reasons = {fields[name]: reason for name, reason in memory.reasons.items() if name in fields}
    if memory.host is None:
        reasons["host_peak_rss_bytes"] = "this system does not report a process's peak"
    return MemoryPart(
        weights_bytes=weights_bytes(loaded.model),
        host_peak_rss_bytes=memory.host,
        reasons=reasons,
        **{field: memory.peaks[name] for name, field in fields.items()},
    )
