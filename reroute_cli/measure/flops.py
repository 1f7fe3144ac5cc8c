"""Floating-point operations of one generation, counted operator by operator while it runs.

2 FLOPs per multiply-add; attention counts its full query x key rectangle, no causal halving; element-wise
work (norms, activations, softmax) and position tables count nothing, as everywhere in this field. torch's
FlopCounterMode counts; this file says which part of the model was running. Counting slows a model down
several times: never time in the same pass. Does not know schedules or prompts.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from math import prod
from types import TracebackType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import StoppingCriteria

from reroute_cli.console.errors import Failure
from reroute_cli.console.missing import lacks
from reroute_cli.measure.clock import alone

# Older releases compute position tables by a matrix product, newer ones element by element.
POSITIONS = ("rotary_emb", "rotary_pos_emb", "patch_positional_embedding")
SCORING = "Scoring"  # class of the modules that choose visual tokens
_ATTENTION = ("scaled_dot_product", "flash_attention", "flash_attn", "efficient_attention")
_PRODUCTS = {  # every other operator that multiplies matrices
    *("mm", "addmm", "bmm", "baddbmm", "convolution", "_scaled_mm", "_int_mm"),
    *("_grouped_mm", "_scaled_grouped_mm", "grouped_mm_fallback"),
}


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Both products of every query head, (B, H, L, D) each; keys may have fewer heads, which are shared."""
    batch, heads, rows, width = query
    return int(2 * batch * heads * rows * key[2] * (width + value[3]))


def _grouped_flops(rows: Any, weights: Any, *_: Any, **__: Any) -> int:
    """Every row once through the matrix of its expert: (M, K) or (G, M, K) by (G, K, N)."""
    return int(2 * prod(rows) * weights[-1])


# What torch's own table lacks (the first three), or in older releases refuses with grouped heads.
_KERNELS = {
    "_scaled_dot_product_flash_attention_for_cpu": _attention_flops,
    "_scaled_dot_product_fused_attention_overrideable": _attention_flops,
    "_grouped_mm": _grouped_flops,
    "_scaled_dot_product_flash_attention": _attention_flops,
    "_scaled_dot_product_efficient_attention": _attention_flops,
    "_scaled_dot_product_cudnn_attention": _attention_flops,
}


def _formulas() -> dict[Any, Any]:
    """Formula of each kernel that this torch has: one that it lacks can't run, and a new one is `unknown`."""
    aten = torch.ops.aten
    return {getattr(aten, name): formula for name, formula in _KERNELS.items() if hasattr(aten, name)}


@dataclass
class Flops:
    """FLOPs by part. vision: tower and projector. prefill: decoder and head on the prompt, without scoring.

    scoring: what ranking visual tokens cost, wherever it happened. decode: every token after the first.
    unknown: attention and matrix products that ran and counted nothing; when there are any, the numbers are
    too low.
    """

    vision: int = 0
    prefill: int = 0
    scoring: int = 0
    decode: int = 0
    unknown: set[str] = field(default_factory=set)

    @property
    def total(self) -> int:
        """All parts together."""
        return self.vision + self.prefill + self.scoring + self.decode


class FlopMeter:
    """Counts the FLOPs of a generate() call on `model` by part; use as a context manager, then read `.flops`.

    Pass `.first_token` in `stopping_criteria`: it tells prefill from decode. A meter may be used again; each
    time it starts from zero.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.flops = Flops()
        self.first_token = _FirstToken()
        tables = (module for name, module in model.named_modules() if name.endswith(POSITIONS))
        language = (model.get_decoder(), model.get_output_embeddings())  # type: ignore[operator]
        self._parts: dict[torch.nn.Module, str] = dict.fromkeys(tables, "positions")  # not the vision part's
        self._parts |= {module: "language" for module in language if module is not None}
        self._running: list[torch.nn.Module] = []

    def __enter__(self) -> FlopMeter:
        with ExitStack() as undo:
            undo.enter_context(alone("FLOPs"))
            self.flops, self.first_token.seen, self._running = Flops(), False, []
            hooks = torch.nn.modules.module
            undo.callback(hooks.register_module_forward_pre_hook(self._enter).remove)
            undo.callback(hooks.register_module_forward_hook(self._leave, always_call=True).remove)
            counter = undo.enter_context(_counter())
            undo.enter_context(_Watch(counter, self))
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def add(self, counted: int) -> None:
        """Bill what one operator counted to the part that is running; position tables to none."""
        running = {self._role(module) for module in self._running}
        if "positions" in running:
            return
        part = "prefill" if "language" in running else "vision"
        if "scoring" in running:
            part = "scoring"
        elif self.first_token.seen:
            part = "decode"
        setattr(self.flops, part, getattr(self.flops, part) + counted)

    def _role(self, module: torch.nn.Module) -> str | None:
        return "scoring" if type(module).__name__ == SCORING else self._parts.get(module)

    def _enter(self, module: torch.nn.Module, _args: Any) -> None:
        if self._role(module):
            self._running.append(module)

    def _leave(self, module: torch.nn.Module, _args: Any, _output: Any) -> None:
        """Also called when the module raised."""
        if self._running and self._running[-1] is module:
            self._running.pop()


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operator before `counter` does, and tells the meter what it counted."""

    supports_higher_order_operators = True

    def __init__(self, counter: FlopCounterMode, meter: FlopMeter) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._counter, self._meter = counter, meter

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = self._counter.get_total_flops()
        output = func(*args, **(kwargs or {}))
        if counted := self._counter.get_total_flops() - before:
            self._meter.add(counted)
            return output
        written = str(func)  # "aten.mm.default"; was it a product that should have counted something?
        _, _, name = written.removesuffix(".default").partition(".")
        if any(word in written for word in _ATTENTION) or (name in _PRODUCTS and output.numel() > 0):
            self._meter.flops.unknown.add(written)
        return output


def _counter() -> FlopCounterMode:
    """torch's counter with our formulas; raises Failure where it takes none."""
    try:
        return FlopCounterMode(display=False, custom_mapping=_formulas())
    except TypeError as error:
        raise Failure(lacks("torch", "custom_mapping", "FlopCounterMode")) from error


class _FirstToken(StoppingCriteria):
    """Notices that the first token is there; never stops."""

    def __init__(self) -> None:
        self.seen = False

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        self.seen = True
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)
