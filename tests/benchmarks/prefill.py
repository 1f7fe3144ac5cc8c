"""How near a routed decoder prefill comes to what it could cost: `python -m tests.benchmarks.prefill`.

One run on one machine, everything interleaved: dense, pruned and rerouted at three ratios, beside limit A
(dense time times the share of FLOPs that is left, ranking not counted) and limit B (the same layers on inputs
of the same lengths, no routing) with the floor of what ranking needs. What is timed, and the decoders with
recurrent states or windows that `--decoder` names: see subject.py.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from reroute_cli.measure.environment import describe_environment
from routing.prefill import Prefill
from routing.schedule import Action
from tests.benchmarks.limits import Arm
from tests.benchmarks.results import arm_result, summary, table
from tests.benchmarks.rounds import Timed, interleave
from tests.benchmarks.subject import DECODERS, Decoder, Subject

SCHEMA = "reroute.engine-speed/1"
RATIOS = (0.667, 0.778, 0.889)
LIMITS = {
    "a": "dense time x routed / dense FLOPs of the decoder layers, ranking not counted",
    "b": "the decoder layers and the last norm on inputs of the routed lengths, fresh KV cache",
    "floor": "at each decision the key projection of all candidates, one query and its products",
    "extra": "the floor without the keys of kept tokens, which limit B projects too",
    "deciding": "part of routed: all work of the engine before deciding layers, norm and keys included",
}


class Deciding:
    """Seconds that the engine spends before deciding layers, added up over one prefill."""

    def __init__(self) -> None:
        self.seconds, self.layers, self._enter = 0.0, frozenset[int](), Prefill.enter

    def watch(self) -> Any:
        """Patches the engine's entry to a layer; nothing else changes."""
        outer = self

        def enter(prefill: Prefill, index: int, *rest: Any) -> Any:
            start = time.perf_counter()
            try:
                return outer._enter(prefill, index, *rest)
            finally:
                if index in outer.layers:
                    outer.seconds += time.perf_counter() - start

        return mock.patch.object(Prefill, "enter", enter)


def measure(
    dtype: str, decoder: Decoder, options: argparse.Namespace, say: Callable[[str], None]
) -> dict[str, Any]:
    """All arms in one number format."""
    subject = Subject(getattr(torch, dtype), options.device, decoder)
    layers = len(subject.work.shape.layers)
    arms = [Arm(m, action, ratio) for m in options.methods for ratio in options.ratios for action in Action]
    calls = {"dense": Timed(subject.run)}
    for arm in arms:
        schedule = arm.schedule(layers)
        for part in ("routed", "compact", "floor", "extra"):
            calls[f"{arm.name} {part}"] = getattr(subject, part)(schedule)
    raw: dict[str, list[float]] = defaultdict(list)
    deciding = Deciding()
    names = {arm.name: frozenset(stage.layer for stage in arm.schedule(layers).stages) for arm in arms}

    def done(name: str, seconds: float) -> None:
        raw[name].append(seconds)
        if name.endswith(" routed") and options.device == "cpu":
            raw[name.replace(" routed", " deciding")].append(deciding.seconds)
        if name == "dense":
            say(f"{dtype}: round {len(raw[name])} of {options.rounds}")

    with deciding.watch():
        interleave(_announced(calls, names, deciding), options.rounds, _wait(options.device), done)
    parts = ("routed", "compact", "floor", "extra", "deciding")
    results = [
        arm_result(arm, subject.work, raw["dense"], {part: raw[f"{arm.name} {part}"] for part in parts})
        for arm in arms
    ]
    return {"dtype": dtype, "dense_s": summary(raw["dense"]), "arms": results}


def _announced(
    calls: dict[str, Timed], layers: dict[str, frozenset[int]], deciding: Deciding
) -> dict[str, Timed]:
    """The same calls, which first tell `deciding` whose layers to look at."""

    def announced(name: str, timed: Timed) -> Timed:
        def call() -> object:
            deciding.seconds, deciding.layers = 0.0, layers.get(name.removesuffix(" routed"), frozenset())
            return timed.call()

        return Timed(call, timed.within)

    return {name: announced(name, timed) for name, timed in calls.items()}


def _keep_memory() -> bool:
    """Have the C library keep what the process has freed, as torch does on a GPU; whether it can (glibc).

    Otherwise every arm pays, at random, for clearing pages that another one gave back.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    settings = {-3: 32 << 20, -1: 1 << 30}  # M_MMAP_THRESHOLD (its maximum), M_TRIM_THRESHOLD
    return mallopt is not None and all(mallopt(name, value) for name, value in settings.items())


def _wait(device: str) -> Callable[[], None]:
    return torch.cuda.synchronize if device.startswith("cuda") else lambda: None


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """What is measured, as the command line says it."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.prefill", description=__doc__)
    parser.add_argument("--decoder", choices=DECODERS, default="plain")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--methods", nargs="+", default=["pdrop", "fastv"])
    parser.add_argument("--ratios", nargs="+", type=float, default=list(RATIOS))
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds, after one that warms up")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--give-back", action="store_true", help="leave the C library's allocator as it is")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as well")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the tables, write the JSON."""
    options = options_of(arguments)
    torch.set_num_threads(options.threads)
    kept = not options.give_back and _keep_memory()
    with torch.no_grad():
        results = [
            measure(dtype, DECODERS[options.decoder], options, lambda line: print(line, file=sys.stderr))
            for dtype in options.dtypes
        ]
    environment = describe_environment()
    print(_machine(environment, kept, options))
    for result in results:
        dense = result["dense_s"]["median"]
        print(f"\n{result['dtype']}, dense {1000 * dense:.1f} ms\n")
        print("\n".join(table(result["arms"])))
    if options.json:
        report = {
            "schema": SCHEMA,
            "limits": LIMITS,
            "decoder": options.decoder,
            "rounds": options.rounds,
            "device": options.device,
            "freed_memory_is_kept": kept,
            "environment": environment,
            "results": results,
        }
        options.json.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _machine(environment: dict[str, Any], kept: bool, options: argparse.Namespace) -> str:
    machine, packages = environment["cpu"], environment["packages"]
    memory = "kept by the process" if kept else "given back to the system"
    return (
        f"{machine['model']}, {machine['cores']} cores, {machine['torch_threads']} threads, "
        f"{options.device}\n"
        f"torch {packages['torch']}, transformers {packages['transformers']}\n"
        f"{options.rounds} rounds, medians with 95% intervals; freed memory is {memory}"
    )


if __name__ == "__main__":
    main()
