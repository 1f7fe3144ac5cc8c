"""How important each visual token looks to one decoder layer.

A method's scorer turns one or a few rows of attention into one number a token. The rows are computed with the
layer's own norm, projections and rotary embedding, O(L * d), never an L x L matrix. Of the plain kind of
attention (`is_plain`) keys are shared with the layer's own run; any other layer runs by itself up to its
attention, whatever it does on the way there, and is stopped. Knows no schedule and no cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from routing.errors import RoutingError
from routing.families.decoders import DECODERS
from routing.hooks import is_watched
from routing.host import (
    EAGER,
    LENGTH_SCALE,
    LENGTH_SCALE_SETTING,
    ROTATE,
    asking,
    beside,
    compiled_call,
    scales_by_position,
    versions,
    what_is_proven,
)

if TYPE_CHECKING:
    from routing.prefill import Context


class Scoring(nn.Module):
    """Runs one scorer with the weights of a decoder layer.

    rows, reduce: of a `routing.methods.Scorer`. A module only so that profilers that attribute work to
    modules show under its own name what ranking costs beside the layer's own work.
    """

    def __init__(self, rows: int, reduce: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.rows, self.reduce = rows, reduce

    def forward(
        self,
        layer: Any,
        hidden: Tensor,
        projected: Tensor | None,
        query: Tensor,
        context: Context,
    ) -> tuple[Tensor, Tensor | None]:
        """Scores of every row as seen by the rows that end at `query`, and every row's key projection.

        hidden: (B, S, d), the layer's input, normed where `is_plain`. projected: (n, H_kv * D), key
        projections of the first n of all B * S rows, or None. query: (B,) row of the last prompt token.
        context: of the S rows. Returns (B, S) float32 without gradient, and (B, S, H_kv * D) with; None
        where not `is_plain`.
        """
        rows = query[:, None] + torch.arange(1 - self.rows, 1, device=query.device)
        rows = rows.clamp(min=0)
        if not is_plain(layer):
            with torch.no_grad():
                return self.reduce(_stopped(layer, hidden, rows, context)), None
        attention = layer.self_attn
        keys = _all_keys(attention.k_proj, hidden, projected)
        with torch.no_grad():
            queries, turned = _rotated(attention, hidden, keys, rows, context.rotary, context.position_ids)
            scores = queries.float() @ turned.float().transpose(-1, -2) * attention.scaling
            scores = scores.unflatten(2, (-1, self.rows))
            scores = scores + _row_bias(context.mask, rows, hidden.shape[1])[:, None, None]
            return self.reduce(scores.softmax(dim=-1).flatten(1, 2)), keys


class _Asked(Exception):  # no error: what stops a layer at its attention
    """The attention of the asking rows (B, H, R, S) float32."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = weights


class _Sparse(nn.Module):
    """A linear map of some rows alone; the others are zero."""

    def __init__(self, linear: Any, rows: Tensor) -> None:
        super().__init__()
        self.linear, self.rows = linear, rows

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, S, d) -> (B, S, n), of which rows (B, R) are computed."""
        few = self.linear(_pick(hidden, self.rows))
        full: Tensor = few.new_zeros(*hidden.shape[:2], few.shape[-1])
        full[torch.arange(len(full), device=full.device)[:, None], self.rows] = few
        return full


def _stopped(layer: Any, hidden: Tensor, rows: Tensor, context: Context) -> Tensor:
    """Attention (B, H, R, S) float32 that rows (B, R) give, by the layer's own way to queries and keys.

    Where it projects them apart, only the asking rows have queries, and nobody has values.
    """

    def ask(
        attention: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        **options: Any,
    ) -> None:
        bias = _row_bias(context.mask if mask is None else mask, rows, key.shape[2])
        query = _pick(query.transpose(1, 2), rows).transpose(1, 2)
        options |= {"dropout": 0.0}
        eager = beside(attention, EAGER)
        nothing = value[..., :0].float()  # what is seen does not matter, only who sees whom
        raise _Asked(eager(attention, query.float(), key.float(), nothing, bias[:, None], **options)[1])

    padding = context.mask is not None and context.mask.ndim == 2  # is for the rows that ask alone
    args, kwargs = (replace(context, mask=None) if padding else context).call(hidden, CACHE=None)

    def projection(name: str, part: Any) -> Any:
        if name == "k_proj" or type(part).forward is not nn.Linear.forward or "forward" in vars(part):
            return part
        return _Sparse(part, rows if name == "q_proj" else rows[:, :0])

    with asking(layer, ask, projection) as copy:
        try:
            type(layer).forward(copy, *args, **kwargs)
        except _Asked as asked:
            return asked.weights
    raise RoutingError(
        f"{type(layer).__name__} computes attention in a way of its own under {versions()}, so it cannot be "
        f"asked what it looks at; {what_is_proven()}"
    )


def is_plain(layer: Any) -> bool:
    """Whether a layer is of the plain kind: norm, q_proj and k_proj, rotary embedding, and nothing else.

    Only decoders of which that is known count; any other layer runs by itself.
    """
    config = getattr(getattr(layer, "self_attn", None), "config", None)
    return getattr(config, "model_type", None) in DECODERS


def shares_keys(layer: Any) -> bool:
    """Whether a layer can be handed its key projection: only that of a plain linear map nobody watches.

    A quantised or adapted one, one that an offloading library has wrapped, one with hooks of its own or one
    inside of a compiled layer runs as it always does.
    """
    if not is_plain(layer):
        return False
    k_proj = layer.self_attn.k_proj
    plain = type(k_proj).forward is nn.Linear.forward and "forward" not in vars(k_proj)
    return plain and compiled_call(layer) is None and not is_watched(k_proj)


def first_keys(k_proj: Any, normed: Tensor, rows: int) -> Tensor:
    """Key projections (B * rows, H_kv * D) of the first B * rows of the B * S rows of `normed` (B, S, d).

    Which rows they are does not matter: it is the work that the layer has to do for `rows` rows anyway, and
    is therefore not done inside `Scoring`.
    """
    keys: Tensor = k_proj(normed.flatten(0, 1)[: normed.shape[0] * rows])
    return keys


def _all_keys(k_proj: Any, normed: Tensor, projected: Tensor | None) -> Tensor:
    """The key projection (B, S, H_kv * D) of every row, computed for those that have none yet."""
    if projected is None:
        keys: Tensor = k_proj(normed)
        return keys
    if len(projected) < normed.shape[0] * normed.shape[1]:
        projected = torch.cat([projected, k_proj(normed.flatten(0, 1)[len(projected) :])])
    return projected.view(*normed.shape[:2], -1)


def _rotated(
    attention: Any,
    normed: Tensor,
    keys: Tensor,
    rows: Tensor,
    rotary: tuple[Tensor, Tensor],
    position_ids: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Rotated queries of `rows`, grouped by key head (B, H_kv, g * R, D), and all keys (B, H_kv, S, D)."""
    rotate = beside(attention, ROTATE)
    cos, sin = rotary
    keys = _heads(attention, keys, "k")
    keys = rotate(keys[:, :0], keys, cos, sin)[1]
    queries = _heads(attention, attention.q_proj(_pick(normed, rows)), "q")
    queries = rotate(queries, queries[:, :0], _pick(cos, rows), _pick(sin, rows))[0]
    if scales_by_position(attention):
        if position_ids is None:
            raise RoutingError(
                f"{type(attention).__name__} scales queries by position, and got no position ids"
            )
        rope = attention.config.rope_parameters
        scale = beside(attention, LENGTH_SCALE)(  # (B, 1, R, 1)
            _pick(position_ids, rows), rope[LENGTH_SCALE_SETTING], rope["original_max_position_embeddings"]
        )
        queries = queries * scale.to(queries.dtype)
    return queries.unflatten(1, (keys.shape[1], -1)).flatten(2, 3), keys


def _heads(attention: Any, projected: Tensor, which: str) -> Tensor:
    """A q or k projection (B, S, heads * D), normed per head where the model does so: (B, heads, S, D)."""
    projected = projected.reshape(*projected.shape[:-1], -1, attention.head_dim)
    norm = getattr(attention, f"{which}_norm", None)
    heads: Tensor = projected if norm is None else norm(projected)
    return heads.transpose(1, 2)


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
