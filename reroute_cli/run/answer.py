"""One question about images, answered under one schedule, as a complete record; and the parts of records.

The order of things: prompt, schedule, passes, record. An answer's key is a digest of everything that
determines it, known before the model runs: two items with the same key get the same answer. An item that
fails has a key of its name instead, since its content may not be readable, or be mended before the next try.
Knows every part by its interface and none of their insides; prints nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reroute_cli.console.missing import installed_version
from reroute_cli.data.prompts import Prompt, build_prompt
from reroute_cli.measure import passes
from reroute_cli.measure.judges import decode_boxes, view_of
from reroute_cli.measure.memory import KvUse, weights_bytes
from reroute_cli.models.sources import POCKET
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
from reroute_cli.run.prompts import PreparedPrompt, Shrunk, prepared
from reroute_cli.run.stages import average_visual, stage_parts
from routing.families import family_of
from routing.families.family import Missing
from routing.methods import DENSE

if TYPE_CHECKING:
    from reroute_cli.data.images import Picture
    from reroute_cli.data.items import Box
    from reroute_cli.data.prompts import Turn
    from reroute_cli.measure.clock import TokenClock
    from reroute_cli.models.load import Loaded
    from reroute_cli.run.schedules import ScheduleChoice

Settings = dict[str, Any]


def answer(
    loaded: Loaded, pictures: Sequence[Picture], question: str, choice: ScheduleChoice, max_new_tokens: int
) -> AnswerRecord:
    """Answer a question about images, measure, and say what it cost; raises what the parts raise."""
    made, job, timed = _timed(loaded, pictures, question, choice, max_new_tokens)
    memory = passes.memory_pass(job, len(timed.new))
    text, prompt = text_of(loaded, timed), made.prompt
    boxes, reasons = boxes_in(text, loaded, [picture.size for picture in pictures], prompt, made.shrunk)
    dense = job
    if made.shrunk is not None:
        dense = passes.make_job(loaded, made.original, made.schedule, max_new_tokens)
    settings = settings_of(loaded, choice, max_new_tokens)
    key = answer_key(settings, [picture.digest for picture in pictures], question)
    return AnswerRecord(
        id=key,
        key=key,
        image=pictures[0].path,
        images=[picture.path for picture in pictures],
        question=question,
        answer=text,
        boxes=boxes,
        model=model_part(loaded),
        environment=environment_part(loaded),
        generation=generation_part(loaded, max_new_tokens),
        schedule=schedule_part(choice, made, timed.stages, loaded.layers),
        tokens=tokens_part(made, timed, loaded.layers),
        flops=_flops_part(job, dense, len(timed.new)),
        kv_cache=measured_kv(timed.kv, None if dense is job else passes.cache_pass(dense, len(timed.new))),
        latency=latency_part(prompt, timed.clock, len(timed.new)),
        memory=_memory_part(loaded, memory),
        reasons=reasons,
    )


def answer_only(
    loaded: Loaded, pictures: Sequence[Picture], question: str, choice: ScheduleChoice, max_new_tokens: int
) -> str:
    """The same answer with nothing counted: one pass, and no record."""
    return text_of(loaded, _timed(loaded, pictures, question, choice, max_new_tokens)[2])


def _timed(
    loaded: Loaded, pictures: Sequence[Picture], question: str, choice: ScheduleChoice, max_new_tokens: int
) -> tuple[PreparedPrompt, passes.Job, passes.TimedPass]:
    """The prompt, what the passes share, and the first of them, with the clock attached."""
    make = partial(build_prompt, loaded.processor, question=question)
    made = prepared(loaded, choice, pictures, make, make(pictures), max_new_tokens)
    job = passes.make_job(loaded, made.prompt, made.schedule, max_new_tokens)
    return made, job, passes.timed_pass(job, max_new_tokens)


def text_of(loaded: Loaded, timed: passes.TimedPass | passes.SampleAnswer) -> str:
    """The new tokens as text."""
    return str(loaded.processor.tokenizer.decode(timed.new, skip_special_tokens=True)).strip()


def boxes_in(
    text: str,
    loaded: Loaded,
    sizes: Sequence[tuple[int, int]],
    prompt: Prompt,
    shrunk: Shrunk | None = None,
) -> tuple[list[Box] | None, dict[str, str]]:
    """The boxes in an answer about images of these sizes, in their pixels; None and why they can't be read.

    shrunk: what the images were before they were made smaller, whose smaller sizes the model saw.
    """
    if isinstance(grounding := family_of(loaded.family).grounding, Missing):
        return None, {"boxes": f"boxes of {loaded.family} models are not read: {grounding.because}"}
    if len(sizes) > 1:
        return None, {"boxes": "with several images an answer does not say which one a box is in"}
    (width, height), *_ = sizes
    wide, high = sizes[0] if shrunk is None else shrunk.part.images[0].size
    view = view_of(loaded.family, loaded.processor.image_processor, prompt.inputs, (wide, high))
    across, down = width / wide, height / high
    seen = replace(
        view,
        left=view.left * across,
        top=view.top * down,
        width=view.width * across,
        height=view.height * down,
    )
    return decode_boxes(text, loaded.family, seen, sizes[0]), {}


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
    choice: ScheduleChoice, made: PreparedPrompt, stages: Sequence[passes.StageCounts], layers: int
) -> SchedulePart:
    """What was asked for, and what these stages, or smaller images, made of it."""
    schedule, visual = made.schedule, made.original_visual
    asked = choice.asked_ratio(visual)
    reasons = {}
    if choice.profile is not None:
        reasons = {
            "method": "the schedule comes from a profile",
            "ratio": "a profile gives keep ratios, not a ratio",
        }
    average = average_visual(stages, made.visual, layers)
    return SchedulePart(
        method=None if choice.profile else choice.method or DENSE,
        action="resize" if choice.resizes else str(schedule.action),
        profile=choice.profile,
        settings=choice.settings,
        ratio=asked,
        achieved_ratio=1 - average / visual if visual else 0.0,
        digest=schedule.digest(),
        stages=stage_parts(schedule, stages),
        resized=None if made.shrunk is None else made.shrunk.part,
        reasons=reasons,
    )


def tokens_part(made: PreparedPrompt, row: passes.TimedPass | passes.SampleAnswer, layers: int) -> TokensPart:
    """The tokens of a prompt of images as they are, and how many of them decoder layers processed."""
    return TokensPart(
        visual_tokens=made.original_visual,
        visual_tokens_per_layer=average_visual(row.stages, made.visual, layers),
        prompt_tokens=made.original.tokens,
        new_tokens=len(row.new),
        finish="length" if row.cut else "stop",
    )


def _flops_part(job: passes.Job, original: passes.Job, new_tokens: int) -> FlopsPart:
    """Counted FLOPs of this run and of the dense prefill; None where the counter can't see the kernels.

    original: the job of the images as they are.
    """
    names = tuple(name for name in FlopsPart.model_fields if name.endswith("flops"))
    attention = job.loaded.attention
    unseen = "" if attention in passes.COUNTED else attention
    values: dict[str, Any] = dict.fromkeys(names)
    if not unseen:
        flops = passes.count_flops(job, new_tokens)
        routed = job.schedule.entries or job is not original
        dense = passes.count_dense_prefill(original) if routed else flops
        unseen = ", ".join(sorted(flops.unknown | dense.unknown))
        if not unseen:
            values = {
                "vision_flops": flops.vision,
                "prefill_flops": flops.prefill + flops.scoring,
                "scoring_flops": flops.scoring,
                "decode_flops": flops.decode,
                "dense_vision_flops": dense.vision,
                "dense_prefill_flops": dense.prefill,
            }
    reasons = dict.fromkeys(names, passes.uncounted(unseen)) if unseen else {}
    return FlopsPart(**values, source="measured", dense_source="measured", reasons=reasons)


def measured_kv(kv: KvUse, dense: KvUse | None = None) -> KvPart:
    """A cache as it was found. dense: that of the images as they are, where these are smaller ones."""
    dense = dense or kv
    return KvPart(
        kv_end_bytes=kv.total_bytes,
        source="measured",
        dense_kv_end_bytes=dense.dense_bytes,
        dense_source="estimated",
        logical_tokens=dense.logical,
        per_layer_tokens=list(kv.tokens),
    )


def latency_part(
    prompt: Prompt,
    clock: TokenClock,
    new: int,
    batch_size: int = 1,
    halvings: int = 0,
    *,
    shared_prefix: bool = False,
    reused_s: float = 0.0,
) -> LatencyPart:
    """The times of an answer of `new` tokens in one pass.

    batch_size: prompts in it; halvings: how often a batch was cut in two before. shared_prefix: the images
    that all its prompts begin with were computed once. reused_s: what it took to encode the images of the
    pass that were encoded before it.
    """
    until = clock.until(new)
    return LatencyPart(
        preprocess_s=prompt.seconds,
        ttft_s=clock.ttft + reused_s,
        tpot_s=(until - clock.ttft) / (new - 1) if new > 1 else None,
        e2e_s=until + reused_s,
        pass_s=clock.end_to_end + reused_s,
        reused_vision_s=reused_s,
        warmup=0,
        runs=1,
        batch_size=batch_size,
        halvings=halvings,
        shared_prefix=shared_prefix,
        reasons={} if new > 1 else {"tpot_s": "there is only one new token"},
    )


def _memory_part(loaded: Loaded, memory: passes.MemoryPass) -> MemoryPart:
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


def settings_of(loaded: Loaded, choice: ScheduleChoice, max_new_tokens: int) -> Settings:
    """What all items of a run share: model, schedule and generation, as plain JSON values."""
    beside: Settings = {}  # what answers depend on beside the model's own files; nothing for most models
    if loaded.processor_filled:
        beside["processor_filled"] = dict(loaded.processor_filled)
    if loaded.adapter is not None:
        beside["adapter"] = loaded.adapter.digest
    if loaded.chat_template != "model":
        beside["chat_template"] = loaded.chat_template
    return {
        "model": {
            "id": loaded.name,
            "revision": loaded.revision,
            "config": loaded.config_digest,
            "dtype": loaded.dtype,
            "attention": loaded.attention,
            "weights": f"random {loaded.seed}" if loaded.random else "loaded",
            **beside,
        },
        "schedule": choice.identity(),
        "generation": loaded.generation.identity(max_new_tokens),
    }


def answer_key(
    settings: Settings, digests: Sequence[str], question: str, copy: int = 0, turns: Sequence[Turn] = ()
) -> str:
    """SHA-256 (hex) of images, question or turns, and settings. copy: how many equal items came before."""
    parts: dict[str, Any] = {"pictures": list(digests), "question": question, **settings}
    parts |= {"turns": [turn.message() for turn in turns]} if turns else {}
    return _digest(parts | ({"copy": copy} if copy else {}))


def failure_key(settings: Settings, identity: str, image: str, question: str) -> str:
    """The key of an item's error: of its names, whatever its image holds."""
    return _digest({"failed": identity, "image": image, "question": question, **settings})


def _digest(parts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
