"""Floating-point operations of one generation, counted operator by operator while it runs.

2 FLOPs per multiply-add; attention counts its full query x key rectangle, no causal halving; element-wise
work (norms, activations, softmax) and position tables count nothing, as everywhere in this field. Counting
slows a model down several times: never time in the same pass. Knows modules only by name; not schedules or
prompts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from transformers import StoppingCriteria

# Older releases compute position tables by a matrix product, newer ones element by element.
POSITIONS = ("rotary_emb", "rotary_pos_emb", "patch_positional_embedding")
SCORING = "Scoring"  # the module inside which the engine ranks visual tokens
_ATTENTION = ("scaled_dot_product", "flash_attention", "flash_attn", "efficient_attention")


def _sdpa_flops(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:  # noqa: ARG001
    """The same formula that torch registers for its GPU kernels."""
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


_UNREGISTERED = {  # fused kernels that torch's table lacks: without these they would count nothing
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _sdpa_flops,
    torch.ops.aten._scaled_dot_product_fused_attention_overrideable: _sdpa_flops,
}


@dataclass
class Flops:
    """FLOPs by part. vision: tower and projector. prefill: decoder and head on the prompt, without scoring.

    scoring: what ranking visual tokens cost, wherever it happened. decode: every token after the first.
    unknown: attention kernels that ran and have no formula; when there are any, the numbers are too low.
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


class FlopMeter(FlopCounterMode):
    """Counts the FLOPs of a generate() call on `model` by part; use as a context manager, then read `.flops`.

    Pass `.first_token` in `stopping_criteria`: it tells prefill from decode.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__(display=False, custom_mapping=_UNREGISTERED)
        self.flops = Flops()
        self.first_token = _FirstToken()
        self._language = _language_modules(model)

    def _count_flops(self, func_packet: Any, out: Any, args: Any, kwargs: Any) -> Any:
        """Torch calls this after every operator; add what it counted to the part that is running."""
        before = self.get_total_flops()
        out = super()._count_flops(func_packet, out, args, kwargs)  # type: ignore[no-untyped-call]
        if counted := self.get_total_flops() - before:
            self._add(counted)
        name = str(func_packet)
        if func_packet not in self.flop_registry and any(word in name for word in _ATTENTION):
            self.flops.unknown.add(name)
        return out

    def _add(self, counted: int) -> None:
        running = self.mod_tracker.parents
        if not any(name.endswith(POSITIONS) for name in running):
            part = self._part(running)
            setattr(self.flops, part, getattr(self.flops, part) + counted)

    def _part(self, running: set[str]) -> str:
        if SCORING in running:
            return "scoring"
        if self.first_token.seen:
            return "decode"
        return "vision" if running.isdisjoint(self._language) else "prefill"


class _FirstToken(StoppingCriteria):
    """Notices that the first token is there; never stops."""

    def __init__(self) -> None:
        self.seen = False

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        self.seen = True
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def _language_modules(model: torch.nn.Module) -> set[str]:
    """Names under which torch's module tracker will report the decoder and the language-model head."""
    language = {id(module) for module in (model.get_decoder(), model.get_output_embeddings())}  # type: ignore[operator]
    kind = type(model).__name__
    return {f"{kind}.{name}" for name, module in model.named_modules() if id(module) in language}
