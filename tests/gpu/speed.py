"""Steps that measure FLOPs, memory and time of a 7B shape with random weights, on the CPU the embedded model.

Arms are interleaved, and a ratio is one of medians or of neighbours in one run. Bounds on speed hold on a
GPU alone: shapes that fit a CPU test say nothing about it.
"""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch

from reroute_cli.console.options import ModelOptions
from reroute_cli.data.images import open_image
from reroute_cli.data.items import batch_items
from reroute_cli.data.prompts import build_prompt
from reroute_cli.measure import passes
from reroute_cli.measure.memory import TorchPeaks
from reroute_cli.models.load import Loaded, load, quiet_libraries
from reroute_cli.run.batch import collate
from reroute_cli.run.prepare import make_request
from reroute_cli.run.prompts import target_of
from reroute_cli.run.schedules import ScheduleChoice
from routing import Schedule
from routing.cost import ModelShape, PromptSize, cost
from tests.benchmarks import batching, prefill, subject
from tests.gpu.outcome import Job

MODEL, TINY = "llava-1.5-7b", "pocket"
SAMPLES = Path(__file__).resolve().parents[2] / "samples"
IMAGE = str(SAMPLES / "desk.png")
QUESTION = "where is the cup?"
ARMS = {
    "dense": ScheduleChoice(),
    "prune": ScheduleChoice("pdrop", "prune", 0.778),
    "reroute": ScheduleChoice("pdrop", "reroute", 0.778),
}
LIMIT = 0.97  # of limit B and the floor
SHAPE = subject.Decoder(hidden=4096, layers=32, heads=32, mlp=11008)
SMALL = subject.Decoder(hidden=64, layers=8, heads=4, mlp=96, text=8, visual=24)


def limits(job: Job) -> None:
    """A routed prefill beside what it could cost at best: `tests.benchmarks.prefill` at the 7B shape."""
    rounds, dtype = ("9", "bfloat16") if job.on_card else ("1", "float32")
    file = job.file("prefill.json")
    arguments = ["--device", job.device, "--dtypes", dtype, "--rounds", rounds, "--json", str(file)]
    arguments += [] if job.on_card else ["--methods", "pdrop", "--ratios", "0.667"]
    with mock.patch.dict(subject.DECODERS, {"plain": SHAPE if job.on_card else SMALL}):
        prefill.main(arguments)
    (found,) = json.loads(file.read_text(encoding="utf-8"))["results"]
    job.note("dense prefill", found["dense_s"]["median"], "s")
    for arm in found["arms"]:
        name = f"{arm['method']}, {arm['action']}, {arm['ratio']:g}"
        job.note(f"{name}: prefill", arm["seconds"]["routed"]["median"], "s")
        for share in ("of_limit_a", "of_limit_b"):
            job.note(f"{name}: {share.replace('_', ' ')}", arm["shares"][share]["median"])
        job.goal(
            f"{name}: of limit B and floor", arm["shares"]["of_limit_b_and_floor"]["median"], least=LIMIT
        )


def profile(job: Job, ratio: str) -> None:
    """`reroute profile` of three methods, pruned and rerouted, batch 1."""
    file = job.file(f"profile-{ratio}.json")
    model = ["-m", MODEL, "--load-format", "dummy", "--dtype", "bfloat16"] if job.on_card else ["-m", TINY]
    length = ["--max-new-tokens", "8"] + (
        ["--repeat", "5"] if job.on_card else ["--repeat", "1", "--warmup", "0"]
    )
    arms = ["--arms", "fastv,pdrop,nuwa" if job.on_card else "nuwa:reroute", "--ratio", ratio]
    reroute(
        "profile",
        IMAGE,
        "-Q",
        QUESTION,
        *model,
        *arms,
        *length,
        "--device",
        job.device,
        "-o",
        str(file),
        "-q",
    )
    for arm in json.loads(file.read_text(encoding="utf-8"))["arms"]:
        for metric in ("ttft", "tpot"):
            job.note(f"{arm['name']}: {metric}", arm["metrics"][metric]["p50"], "s")


def reroute(*arguments: str) -> None:
    """The command line, in this process; raises what it says where its exit code is not 0."""
    said = io.StringIO()
    with mock.patch.object(sys, "argv", ["reroute", *arguments]), contextlib.redirect_stderr(said):
        try:
            runpy.run_module("reroute_cli", run_name="__main__")
        except SystemExit as end:
            if end.code:
                raise RuntimeError(f"exit code {end.code}: {said.getvalue().strip()}") from None


def decode(job: Job) -> None:
    """Seconds per token of routed answers over dense ones, alone and in a batch of unequal lengths."""
    loaded = _load(job)
    length, rounds = (64, 5) if job.on_card else (4, 1)
    for size in (1, 8) if job.on_card else (1, 2):
        jobs = {name: passes.Job(loaded, *_prompt(loaded, choice, size)) for name, choice in ARMS.items()}
        times: dict[str, list[float]] = {name: [] for name in jobs}
        for number in range(rounds + 1):
            for name in jobs if number % 2 else reversed(jobs):
                found = passes.forced_pass(jobs[name], length)
                if number:
                    times[name].append(found.tpot)
        job.note(f"batch {size}: dense", median(times["dense"]), "s a token")
        for name in ("prune", "reroute"):
            ratio = median(own / dense for own, dense in zip(times[name], times["dense"], strict=True))
            job.goal(f"batch {size}: {name} over dense", ratio, most=1.0 if size == 1 else 1.05)


def throughput(job: Job) -> None:
    """Items per second of `reroute batch` in batches, over those one by one."""
    loaded = _load(job)
    sizes, count, length = ((1, 8, 32), 32, 16) if job.on_card else ((1, 2), 2, 2)
    items = batch_items(None, None, SAMPLES / "manifest.jsonl", count).chosen
    calls: dict[tuple[str, int], Callable[[], Any]] = {}
    for name in ("dense", "reroute"):
        request = make_request(loaded, [ARMS[name]], length, 1)
        calls |= {(name, size): _timed(request, items, size) for size in sizes}
    seconds: dict[tuple[str, int], list[float]] = {key: [] for key in calls}
    for number in range(3 if job.on_card else 1):  # the first warms up where there are several
        for key in calls if number % 2 else reversed(calls):
            found = calls[key]().seconds
            seconds[key] = [found] if number == 1 else [*seconds[key], found]
    for (name, size), found in seconds.items():
        job.note(f"{name}, batch {size}", len(items) / median(found), "items/s")
        least = {8: 3.0}.get(size)
        if size > 1 and least is None:
            job.note(f"{name}, batch {size} over 1", median(seconds[name, 1]) / median(found))
        elif size > 1:
            job.goal(f"{name}, batch {size} over 1", median(seconds[name, 1]) / median(found), least=least)


def _timed(request: Any, items: Sequence[Any], size: int) -> Callable[[], Any]:
    return lambda: batching.once(request, items, size)


def flops(job: Job) -> None:
    """What torch counts while an answer is given equals the arithmetic, whichever kernels ran."""
    loaded = _load(job)
    shape = ModelShape.from_config(loaded.model.config.to_dict())
    for name, choice in ARMS.items():
        inputs, schedule = _prompt(loaded, choice, 1)
        visual = int(torch.isin(inputs["input_ids"], _visual_ids(loaded)).sum())
        text = inputs["input_ids"].shape[1] - visual
        counted = passes.count_flops(passes.Job(loaded, inputs, schedule), 3)
        expected = cost(shape, schedule, [PromptSize(text, visual)], 3)
        job.note(f"{name}: kernels without a formula", float(len(counted.unknown)), most=0)
        for part, right in (
            ("prefill", expected.prefill_flops),
            ("scoring", expected.scoring_flops),
            ("decode", expected.decode_flops),
        ):
            apart = abs(getattr(counted, part) - right)
            job.note(f"{name}: {part}, counted less arithmetic", float(apart), "FLOPs", most=0)


def peaks(job: Job) -> None:
    """Peak memory of an answer: pruned below dense, rerouted above it by the deferred tokens at most."""
    loaded = _load(job)
    size = 8 if job.on_card else 2
    found: dict[str, int | None] = {}
    for name, choice in ARMS.items():
        one = passes.Job(loaded, *_prompt(loaded, choice, size))
        passes.cache_pass(one, 1)  # what libraries keep from their first run on is no arm's
        with TorchPeaks(job.device) as peak:
            passes.cache_pass(one, 8)
        found[name] = peak.allocated
        reason = None if job.on_card else "torch counts nothing on a CPU"
        job.note(f"{name}, batch {size}", peak.allocated, "bytes", reason=reason)
    text = loaded.model.config.get_text_config()
    width = one.inputs["input_ids"].shape[1]
    deferred = size * width * text.hidden_size * loaded.model.dtype.itemsize
    job.note("deferred tokens", float(deferred), "bytes")
    if found["dense"] is not None:
        job.goal("prune over dense", found["prune"] / found["dense"], most=1.0)
        job.goal("reroute less dense", found["reroute"] - found["dense"], "bytes", most=deferred)


def _load(job: Job) -> Loaded:
    """The model that is measured: 7B of random weights on a GPU, the embedded one on the CPU."""
    options = ModelOptions(TINY, job.device, quiet=True)
    if job.on_card:
        options = replace(options, model=MODEL, dtype="bfloat16", load_format="dummy")
    with quiet_libraries():
        loaded = load(options)
    job.note("seconds to load", job.outcome.within - job.left, "s")
    return loaded


def _visual_ids(loaded: Loaded) -> torch.Tensor:
    return torch.tensor(loaded.image_token_ids, device=loaded.model.device)


def _prompt(loaded: Loaded, choice: ScheduleChoice, size: int) -> tuple[dict[str, Any], Schedule]:
    """A batch of questions that grow by a few words each, and the schedule for its image."""
    words = " and the plate" * 5
    prompts = [
        build_prompt(loaded.processor, [open_image(IMAGE)], QUESTION + words[: 14 * (row % 6)])
        for row in range(size)
    ]
    visual = prompts[0].count(loaded.image_token_ids)
    inputs = collate([prompt.inputs for prompt in prompts], passes.pad_token(loaded))
    return passes.on_device(inputs, loaded.model), choice.build(target_of(loaded, visual))
