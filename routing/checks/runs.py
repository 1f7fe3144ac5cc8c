"""What the engine's tests do again and again: run a tiny model, routed or not, and note what came out.

Uses the public names of `routing` only. Does not know what is expected: that is reference.py's business.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LlamaModel

import routing
from routing.checks.reference import Cut
from routing.checks.subjects import Sample, Tiny
from routing.engine import routed
from routing.families import locate
from routing.host import NAMES, Role, cache_of

HALF_THEN_QUARTER = (Cut(2, 0.5), Cut(4, 0.25))
ACTIONS = ("prune", "reroute")
TOLERANCE = 1e-5


def plan(cuts: Sequence[Cut], action: str = "prune", **more: Any) -> routing.Schedule:
    """The engine's schedule for these cuts."""
    stages = tuple(routing.Stage(layer=c.layer, keep_ratio=c.keep_ratio, scored_by=c.scored_by) for c in cuts)
    return routing.Schedule(stages=stages, action=routing.Action(action), **more)


@dataclass(frozen=True)
class Ran:
    """New tokens and first-step logits per sample, the cache, and the trace (None when not routed)."""

    tokens: list[list[int]]
    logits: torch.Tensor
    cache: Any
    trace: routing.RouteTrace | None = None

    def kept(self, sample: int = 0) -> tuple[tuple[int, ...], ...]:
        """Kept visual indices of one sample, per stage of the last routed prefill."""
        assert self.trace is not None
        return tuple(tuple(stage.kept[sample].tolist()) for stage in self.trace.stages)


def generate(model: Any, inputs: dict[str, Any], new: int = 6, **more: Any) -> Ran:
    """Greedy generation unless told otherwise, with the logits of the first new token."""
    more = {"do_sample": False, "max_new_tokens": new, **more}
    with torch.no_grad():
        output = model.generate(**inputs, **more, return_dict_in_generate=True, output_logits=True)
    tokens = output.sequences[:, inputs["input_ids"].shape[1] :].tolist()
    return Ran(tokens, output.logits[0], cache_of(output))


def generate_routed(
    tiny: Tiny, schedule: routing.Schedule, *samples: Sample, new: int = 6, **more: Any
) -> Ran:
    """The same under a schedule, on a batch of samples."""
    with routed(locate(tiny.model), schedule) as trace:
        ran = generate(tiny.model, tiny.inputs(*samples), new, **more)
    return Ran(ran.tokens, ran.logits, ran.cache, trace)


def holding(cache: Any) -> dict[str, Any]:
    """The keyword argument under which models of the installed release take a cache."""
    parameters = inspect.signature(LlamaModel.forward).parameters
    return {next(name for name in NAMES[Role.CACHE] if name in parameters): cache}


def stored(cache: Any) -> list[int]:
    """Columns really held per layer; 0 in one without keys."""
    keys = (getattr(layer, "keys", None) for layer in cache.layers)
    return [0 if held is None else held.shape[-2] for held in keys]


def hooks(model: Any) -> dict[str, Any]:
    """Every hook on every module, and what instances override: to compare before and after."""

    def state(module: Any) -> dict[str, Any]:
        return {
            key: list(value) if isinstance(value, dict) and "hook" in key else None
            for key, value in vars(module).items()
        }

    return {name: state(module) for name, module in model.named_modules()}


def close(left: torch.Tensor, right: torch.Tensor, tolerance: float = TOLERANCE) -> bool:
    """Within the tolerance, of the contract 1e-5 in float32, or that share of numbers larger than 1."""
    return bool((left - right).abs().max() <= tolerance * max(1.0, float(left.abs().max())))
