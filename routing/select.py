"""Choosing tokens and moving them: top-k, gather, scatter, compact masks.

Tensors only: knows no model, no schedule, no method. Every count that shapes a tensor is a plain int, so that
nothing here waits for the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Which columns of an (B, L) batch stand in the W rows of a compact one, right-aligned, in order.

    index: (B, W) LongTensor, columns of the full batch; -1 in filler rows.
    valid: (B, W) bool, False in filler rows; None when there is no filler.
    source: (n,) LongTensor, the valid rows in the flattened compact batch; target: their flattened columns.
    length: L.
    """

    index: Tensor
    valid: Tensor | None
    source: Tensor
    target: Tensor
    length: int

    @property
    def width(self) -> int:
        """W, the rows of the compact batch."""
        return self.index.shape[1]

    @cached_property
    def newest(self) -> tuple[int, ...]:
        """The largest column of each row over the batch, ascending; waits for the device, once."""
        return tuple(self.index.amax(dim=0).tolist())

    @property
    def safe(self) -> Tensor:
        """`index` with filler rows pointing at column 0, so that it can be used for reading."""
        return self.index if self.valid is None else self.index.clamp(min=0)


def uploaded(host: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on the device, which nobody waits for.

    Ordinary memory is copied before this returns, so that it may be written to or freed afterwards.
    """
    return host.to(device, non_blocking=True)


def tokens_first(hidden: Tensor) -> Tensor:
    """Hidden states as (B, S, ...): of layers that take several streams (n, B, S, d), (B, S, n, d)."""
    return hidden if hidden.ndim == 3 else hidden.movedim(0, 2)


def streams_first(hidden: Tensor) -> Tensor:
    """What `tokens_first` was given."""
    return hidden if hidden.ndim == 3 else hidden.movedim(2, 0)


def top_k(scores: Tensor, candidates: Tensor, counts: tuple[int, ...]) -> Tensor:
    """The `counts[b]` best candidates of each sample, ties to the lower column.

    scores: (B, L) float. candidates: (B, L) bool. Returns (B, L) bool.
    """
    order = scores.masked_fill(~candidates, -torch.inf).argsort(dim=1, descending=True, stable=True)
    columns = torch.arange(scores.shape[1], device=scores.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, columns)
    if len(set(counts)) == 1:
        return (rank < counts[0]) & candidates
    return (rank < uploaded(torch.tensor(counts, device="cpu"), scores.device)[:, None]) & candidates


def pack(keep: Tensor, sizes: tuple[int, ...]) -> Rows:
    """The rows of a compact batch that holds exactly the kept columns.

    keep: (B, L) bool with sizes[b] columns set in sample b.
    """
    batch, length = keep.shape
    width = max(sizes)
    columns = torch.arange(length, device=keep.device).expand_as(keep)
    index = torch.where(keep, columns, -1).sort(dim=1).values[:, length - width :]
    offset = torch.arange(batch, device=keep.device)[:, None] * length
    target = (index + offset).flatten()
    if min(sizes) == width:
        return Rows(index, None, torch.arange(batch * width, device=keep.device), target, length)
    ends = [(row + 1) * width for row in range(batch)]
    held = [torch.arange(end - size, end, device="cpu") for end, size in zip(ends, sizes, strict=True)]
    source = uploaded(torch.cat(held), keep.device)
    return Rows(index, index >= 0, source, target[source], length)


def gather(full: Tensor, index: Tensor) -> Tensor:
    """Rows `index` (B, W) of `full` (B | 1, L, ...) -> (B, W, ...)."""
    batch, width = index.shape
    if full.shape[0] == 1:
        return full[0].index_select(0, index.flatten()).view(batch, width, *full.shape[2:])
    offset = torch.arange(batch, device=index.device)[:, None] * full.shape[1]
    return full.flatten(0, 1).index_select(0, (index + offset).flatten()).view(batch, width, *full.shape[2:])


def scatter(full: Tensor, rows: Rows, compact: Tensor, *, in_place: bool = False) -> Tensor:
    """`full` (B, L, d) with the valid rows of `compact` (B, W, d) at their columns.

    A copy, unless in_place: then `full` itself, which must be contiguous and needed by no gradient.
    """
    values = compact.flatten(0, 1)
    if rows.valid is not None:
        values = values.index_select(0, rows.source)
    if not in_place:
        return full.flatten(0, 1).index_copy(0, rows.target, values).view_as(full)
    full.view(-1, *full.shape[2:]).index_copy_(0, rows.target, values)
    return full


def within(outer: Rows, keep: Tensor) -> Tensor:
    """A (B, L) choice seen from the rows of a compact batch: (B, W) bool, False in filler rows."""
    inner = keep.gather(1, outer.safe)
    return inner if outer.valid is None else inner & outer.valid


def spread(outer: Rows, values: Tensor, fill: float) -> Tensor:
    """(B, W) values of compact rows -> (B, L), `fill` elsewhere."""
    full = values.new_full((values.shape[0], outer.length), fill)
    return scatter(full[..., None], outer, values[..., None])[..., 0]


def block(mask: Tensor, allowed: Tensor) -> Tensor:
    """`mask` (bool, or additive float) with everything outside `allowed` blocked."""
    if mask.dtype == torch.bool:
        return mask & allowed
    return mask.masked_fill(~allowed, torch.finfo(mask.dtype).min)


def square_mask(mask: Tensor | None, rows: Rows) -> Tensor | None:
    """The mask of the compact batch among itself.

    mask: None (causal), (B, L) padding mask, or (B | 1, 1, L, L) bool or additive. Filler rows see themselves
    alone, so that no row is empty; no other row sees a filler.
    """
    if mask is None:
        if rows.valid is None:
            return None
        causal = (rows.index[:, :, None] >= rows.index[:, None, :]) & rows.valid[:, None, :]
        return (causal | _filler_self(rows.valid))[:, None]
    if mask.ndim == 2:
        return within(rows, mask.bool()).to(mask.dtype)
    batch, safe = torch.arange(rows.index.shape[0], device=mask.device)[:, None, None], rows.safe
    compact = mask[:, 0].expand(rows.index.shape[0], -1, -1)[batch, safe[:, :, None], safe[:, None, :]]
    if rows.valid is not None:
        compact = block(compact, rows.valid[:, None, :])
        compact = compact.masked_fill(_filler_self(rows.valid), True if mask.dtype == torch.bool else 0.0)
    return compact[:, None]


def padding_mask(mask: Tensor | None, rows: Rows) -> Tensor | None:
    """Which rows of the compact batch are real, (B, W) of 0/1; None where all are.

    mask: (B, L) of 0/1, or None for a batch without padding.
    """
    if mask is None:
        return None if rows.valid is None else rows.valid.to(torch.long)
    return within(rows, mask.bool()).to(mask.dtype)


def everything(like: Tensor) -> Rows:
    """All columns of a batch (B, L), as rows."""
    batch, length = like.shape
    index = torch.arange(length, device=like.device).expand(batch, -1)
    flat = torch.arange(batch * length, device=like.device)
    return Rows(index, None, flat, flat, length)


def column_mask(mask: Tensor | None, columns: Tensor, queries: int) -> Tensor | None:
    """The mask of new queries over stored keys.

    mask: None, (B, T) padding mask or (B | 1, 1, q, T) over all T columns. columns: (B, S) column of each
    stored key, -1 for filler. Without a mask the last `queries` keys are the queries' own, causally visible.
    """
    valid, safe = columns >= 0, columns.clamp(min=0)
    if mask is None:
        stored = columns.shape[1]
        order = torch.arange(stored, device=columns.device)
        causal = order[None, :] <= order[stored - queries :, None]
        return (valid[:, None, :] & causal)[:, None]
    if mask.ndim == 2:
        return (mask.bool().gather(1, safe) & valid).to(mask.dtype)
    full = mask.expand(columns.shape[0], -1, -1, -1)
    picked = full.gather(3, safe[:, None, None, :].expand(-1, full.shape[1], full.shape[2], -1))
    return block(picked, valid[:, None, None, :])


def _filler_self(valid: Tensor) -> Tensor:
    itself = torch.eye(valid.shape[1], dtype=torch.bool, device=valid.device)
    return itself & ~valid[:, :, None]
