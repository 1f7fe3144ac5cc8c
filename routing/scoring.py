"""How important each visual token looks to one decoder layer.

A scorer turns one or a few rows of attention into one number a token. The rows are computed with the layer's
own norm, projections and rotary embedding, O(L * d), never an L x L matrix. Knows no schedule and no cache.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Scorer:
    """A ranking by attention.

    rows: how many of the prompt's last tokens ask. reduce: attention (B, H, R, L) float32 -> score (B, L).
    """

    rows: int
    reduce: Callable[[Tensor], Tensor]


def _mean_over_heads(attention: Tensor) -> Tensor:
    """The last prompt token's attention, averaged over heads (FastV, PyramidDrop, Reroute section 3)."""
    return attention.mean(dim=1)[:, -1]


def _max_of_row_means(attention: Tensor) -> Tensor:
    """Mean over the asking rows, then the most interested head (Nuwa for Qwen2.5-VL, second stage)."""
    return attention.mean(dim=2).amax(dim=1)


SCORERS: dict[str, Scorer | None] = {
    "last_query": Scorer(rows=1, reduce=_mean_over_heads),
    "last_queries_max": Scorer(rows=3, reduce=_max_of_row_means),
    "random": None,  # no attention asked: see random_scores
}


class Scoring(nn.Module):
    """Runs one scorer with the weights of a decoder layer.

    A module only so that profilers that attribute work to modules show scoring under its own name.
    """

    def __init__(self, scorer: Scorer) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(
        self,
        layer: Any,
        hidden: Tensor,
        query: Tensor,
        rotary: tuple[Tensor, Tensor],
        position_ids: Tensor | None,
        mask: Tensor | None,
    ) -> Tensor:
        """Scores of every row of `hidden` as seen by the rows that end at `query`.

        hidden: (B, S, d), the layer's input. query: (B,) row of the last prompt token. rotary: cos and sin,
        (B | 1, S, r). position_ids: (B | 1, S) or None. mask: None (causal), (B, S) padding or
        (B | 1, 1, S, S). Returns (B, S) float32.
        """
        rows = query[:, None] + torch.arange(1 - self.scorer.rows, 1, device=query.device)
        rows = rows.clamp(min=0)
        queries, keys = _project(layer, hidden, rows, rotary, position_ids)
        attention = layer.self_attn
        scores = queries.float() @ keys.float().transpose(-1, -2) * attention.scaling
        scores = (
            scores.unflatten(2, (-1, self.scorer.rows))
            + _row_bias(mask, rows, hidden.shape[1])[:, None, None]
        )
        return self.scorer.reduce(scores.softmax(dim=-1).flatten(1, 2))


def _project(
    layer: Any, hidden: Tensor, rows: Tensor, rotary: tuple[Tensor, Tensor], position_ids: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Rotated queries of `rows`, grouped by key head (B, H_kv, g * R, D), and all keys (B, H_kv, S, D)."""
    attention, normed = layer.self_attn, layer.input_layernorm(hidden)
    rotate = sys.modules[type(attention).__module__].apply_rotary_pos_emb
    cos, sin = rotary
    keys = _heads(attention, normed, "k")
    keys = rotate(keys[:, :0], keys, cos, sin)[1]
    queries = _heads(attention, _pick(normed, rows), "q")
    queries = rotate(queries, queries[:, :0], _pick(cos, rows), _pick(sin, rows))[0]
    if position_ids is not None:
        queries = queries * _length_scale(attention, _pick(position_ids, rows)).to(queries.dtype)
    return queries.unflatten(1, (keys.shape[1], -1)).flatten(2, 3), keys


def _heads(attention: Any, hidden: Tensor, which: str) -> Tensor:
    """The q or k projection of (B, S, d), normed per head where the model does so: (B, heads, S, D)."""
    projected = getattr(attention, f"{which}_proj")(hidden).unflatten(-1, (-1, attention.head_dim))
    norm = getattr(attention, f"{which}_norm", None)
    heads: Tensor = projected if norm is None else norm(projected)
    return heads.transpose(1, 2)


def _length_scale(attention: Any, positions: Tensor) -> Tensor:
    """Ministral 3 sharpens queries by position (B, 1, R, 1); 1 for every other decoder."""
    scale = getattr(sys.modules[type(attention).__module__], "get_llama_4_attn_scale", None)
    if scale is None:
        return torch.ones((), device=positions.device)
    rope = attention.config.rope_parameters
    found: Tensor = scale(
        positions, rope.get("llama_4_scaling_beta"), rope.get("original_max_position_embeddings")
    )
    return found


def _pick(full: Tensor, rows: Tensor) -> Tensor:
    """(B | 1, S, ...) at rows (B, R) -> (B, R, ...)."""
    full = full.expand(rows.shape[0], *full.shape[1:])
    return full[torch.arange(rows.shape[0], device=full.device)[:, None], rows]


def _row_bias(mask: Tensor | None, rows: Tensor, length: int) -> Tensor:
    """What each asking row may see: (B, R, S) float32 of 0 and -inf, or the additive mask's own values."""
    columns = torch.arange(length, device=rows.device)
    visible = columns <= rows[..., None]
    if mask is not None and mask.ndim == 2:
        visible = visible & mask.bool()[:, None, :]
    elif mask is not None:
        picked = _pick(mask[:, 0], rows)
        if picked.dtype != torch.bool:
            return picked.float()
        visible = picked
    return torch.zeros(visible.shape, device=rows.device).masked_fill(~visible, -torch.inf)


def random_scores(seed: int, stage: int, prompt: list[int], visual: int) -> Tensor:
    """Uniform scores (V,) on the CPU that depend on the seed, the stage and the prompt's own tokens alone.

    So a sample gets the same draw alone, in any batch and under any padding.
    """
    digest = hashlib.sha256(repr((seed, stage, prompt)).encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.rand(visual, generator=generator)
