"""How important each visual token looks to one decoder layer.

A method's scorer turns a few rows of attention, or the layer's keys, into one number a token. The rows are
computed with the layer's own norm, projections and rotary embedding, O(L * d), never an L x L matrix. Of the
plain kind of attention (`is_plain`) keys are shared with the layer's own run; any other layer runs by itself
up to its attention, whatever it does on the way there, and is stopped. Knows no schedule and no cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from routing.errors import RoutingError, UnsupportedModelError
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
from routing.methods import Scorer
from routing.methods.method import Sight

if TYPE_CHECKING:
    from routing.prefill import Context


ROWS = 64  # asking rows whose attention is held at a time, so that a long question costs no more memory
_Attend = Callable[[Tensor], Tensor]  # rows (B, R) -> the attention that they give, (B, H, R, S) float32


def score(
    scorer: Scorer, layer: Any, hidden: Tensor, projected: Tensor | None, sight: Sight, context: Context
) -> tuple[Tensor, Tensor | None]:
    """Scores of every row by the weights of a decoder layer, and every row's key projection.

    hidden: (B, S, d), the layer's input, normed where `is_plain`. projected: (n, H_kv * D), key projections
    of the first n of all B * S rows, or None. sight: without what is seen by the layer itself. context: of
    the S rows. Returns (B, S) float32 without gradient, and (B, S, H_kv * D) with; None where not `is_plain`.
    """
    if not is_plain(layer):
        if scorer.level:
            raise UnsupportedModelError(
                f"{type(layer).__name__} turns queries and keys in a way of its own, so what position alone "
                f"makes of its attention is not known; {what_is_proven()}"
            )
        with torch.no_grad():
            return _ranked(scorer, *_stopped(layer, hidden, sight.asking, context), sight), None
    attention = layer.self_attn
    projected = _all_keys(attention.k_proj, hidden, projected)
    with torch.no_grad():
        keys = _turned(attention, _heads(attention, projected, "k"), context.rotary)
        attend = partial(_attended, attention, hidden, keys.float(), context)
        if scorer.level:
            attend = partial(_levelled, attention, attend, context.rotary)
        return _ranked(scorer, attend, keys, sight), projected


def _ranked(scorer: Scorer, attend: _Attend, keys: Tensor, sight: Sight) -> Tensor:
    """Scores (B, S) of what a layer sees; keys: (B, H_kv, S, D)."""
    if scorer.reduce is not None:
        return scorer.reduce(attend(sight.asking))
    assert scorer.rank is not None
    if scorer.compares:
        return scorer.rank(replace(sight, keys=keys))
    assert sight.weights is not None
    parts = zip(torch.split(sight.asking, ROWS, 1), torch.split(sight.weights, ROWS, 1), strict=True)
    heard = [(attend(rows) * weights[:, None, :, None]).sum(dim=2) for rows, weights in parts]
    return scorer.rank(replace(sight, attention=torch.stack(heard).sum(dim=0)))


class _Asked(Exception):  # no error: what stops a layer at its attention
    """How rows attend, and the keys (B, H_kv, S, D)."""

    def __init__(self, attend: _Attend, keys: Tensor) -> None:
        super().__init__()
        self.attend, self.keys = attend, keys


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


def _stopped(layer: Any, hidden: Tensor, rows: Tensor, context: Context) -> tuple[_Attend, Tensor]:
    """How `rows` (B, R) attend, and the keys, by the layer's own way to queries and keys.

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
        options |= {"dropout": 0.0}
        eager = beside(attention, EAGER)
        nothing = value[..., :0].float()  # what is seen does not matter, only who sees whom

        def attend(rows: Tensor) -> Tensor:
            bias = _row_bias(context.mask if mask is None else mask, rows, key.shape[2])
            asked = _pick(query.transpose(1, 2), rows).transpose(1, 2)
            seen: Tensor = eager(attention, asked.float(), key.float(), nothing, bias[:, None], **options)[1]
            return seen

        raise _Asked(attend, key)

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
            return asked.attend, asked.keys
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


def _turned(attention: Any, heads: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Heads (B, H, S, D) with the rotary embedding of their positions: cos and sin (B | 1, S, r)."""
    turned: Tensor = beside(attention, ROTATE)(heads[:, :0], heads, *rotary)[1]
    return turned


def _attended(attention: Any, normed: Tensor, keys: Tensor, context: Context, rows: Tensor) -> Tensor:
    """Attention (B, H, R, S) that `rows` (B, R) of the normed input give to all keys (B, H_kv, S, D)."""
    queries = _heads(attention, attention.q_proj(_pick(normed, rows)), "q")
    cos, sin = context.rotary
    queries = _turned(attention, queries, (_pick(cos, rows), _pick(sin, rows)))
    if scales_by_position(attention):
        if context.position_ids is None:
            raise RoutingError(
                f"{type(attention).__name__} scales queries by position, and got no position ids"
            )
        rope = attention.config.rope_parameters
        scale = beside(attention, LENGTH_SCALE)(  # (B, 1, R, 1)
            _pick(context.position_ids, rows),
            rope[LENGTH_SCALE_SETTING],
            rope["original_max_position_embeddings"],
        )
        queries = queries * scale.to(queries.dtype)
    grouped = queries.float().reshape(len(queries), keys.shape[1], -1, queries.shape[-1])  # by key head
    scores = grouped @ keys.transpose(-1, -2) * attention.scaling
    scores = scores.view(*grouped.shape[:2], -1, rows.shape[1], keys.shape[2])
    scores = scores + _row_bias(context.mask, rows, normed.shape[1])[:, None, None]
    seen: Tensor = scores.softmax(dim=-1).flatten(1, 2)
    return seen


def _levelled(attention: Any, attend: _Attend, rotary: tuple[Tensor, Tensor], rows: Tensor) -> Tensor:
    """Attention over the product of a query and a key of ones at the same positions, by the root of D.

    That product alone falls with the distance (on average, not at every step).
    """
    cos = rotary[0]
    ones = cos.new_ones(cos.shape[0], 1, cos.shape[1], attention.head_dim)
    ones = _turned(attention, ones, rotary)[:, 0].float()
    near: Tensor = _pick(ones, rows) @ ones.transpose(-1, -2) * attention.head_dim**-0.5
    return attend(rows) / near[:, None]


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
