"""The tokens that all prompts of a batch begin with, computed once in the layers before rows differ.

Where the prompts of a batch show the same images before their own questions, every layer up to the first
decision makes the same of that beginning in each row. The rows are packed into one sequence for these layers:
the shared tokens once, then what each row has of its own, which sees the shared tokens and its own row and
nothing else. It is the layer's own forward on fewer tokens, with the positions and the mask that the rows
have. At the first decision rows part again. Of each layer's keys and values every row gets its own, as if it
had run alone. Knows layers' arguments and caches; registers no hooks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from routing.cache import DynamicLayer, stored_rows
from routing.errors import RoutingError, UnsupportedInputError
from routing.families import Location
from routing.host import compiled_call, versions, what_is_proven
from routing.layout import VisualLayout
from routing.select import block, gather

if TYPE_CHECKING:
    from routing.decisions import Decision
    from routing.prefill import Context


def why_not_shared(location: Location) -> str | None:
    """Why a model can't compute a beginning that prompts share once, as a sentence; None where it can."""
    info, family = location.info, location.info.family
    reasons = {
        "a state of its layers runs over each row's own tokens": not all(kind.ranks for kind in info.kinds),
        "image tokens see the question behind them": location.family.bidirectional,
        "vision features enter between its layers": info.first_layer > 0,
        "nothing has proven it for a model type without a file of its own": not info.filed,
        "flash attention takes no mask that tells rows apart; load the model with sdpa": (
            location.attention.startswith("flash")
        ),
        "its decoder layers are compiled": any(compiled_call(layer) for layer in location.layers),
    }
    found = next((because for because, holds in reasons.items() if holds), None)
    return None if found is None else f"{family} can't share the beginning of prompts: {found}"


@dataclass(frozen=True)
class PackedRows:
    """B prompts that begin alike as one sequence of T tokens: the P shared ones, then the rest of each row.

    row, column: (T,) LongTensor, where in the batch each token stands; a shared one in row 0.
    place: (B, L) LongTensor, the token of the sequence that each column is; of padding, the first.
    shared: (B, P) LongTensor, the columns of the shared tokens in each row.
    """

    row: Tensor
    column: Tensor
    place: Tensor
    shared: Tensor

    @property
    def width(self) -> int:
        """T."""
        return len(self.row)

    def pack(self, full: Tensor) -> Tensor:
        """(B | 1, L, ...) -> (1, T, ...)."""
        rows = self.row if full.shape[0] > 1 else torch.zeros_like(self.row)
        return full[rows, self.column][None]

    def pack_ids(self, full: Tensor) -> Tensor:
        """(..., B | 1, L) -> (..., 1, T), such as the axes of M-RoPE."""
        if full.ndim <= 2:
            return self.pack(full)
        return torch.stack([self.pack_ids(part) for part in full])

    def unpack(self, packed: Tensor) -> Tensor:
        """(1, T, ...) -> (B, L, ...)."""
        return packed[0][self.place]

    def mask(self, full: Tensor | None) -> Tensor:
        """Who sees whom, (1, 1, T, T): what each token's own row says, and nobody of another row.

        full: None (causal), or (B | 1, 1, L, L) bool or additive.
        """
        count = self.shared.shape[1]
        own = self.row[:, None] == self.row
        own[:, :count] = True
        seen = self.column.expand(self.width, -1).clone()  # column of a token in the row of who looks
        seen[:, :count] = self.shared[self.row]
        if full is None:
            return (own & (seen <= self.column[:, None]))[None, None]
        rows = self.row if full.shape[0] > 1 else torch.zeros_like(self.row)
        return block(full[rows[:, None], 0, self.column[:, None], seen], own)[None, None]


class SharedPrefix:
    """Follows one prefill of several rows through the layers before its first decision, in order.

    until: the layer at whose input rows part.
    """

    def __init__(self, layout: VisualLayout, found: tuple[Decision, ...], layers: int) -> None:
        looks = (one.layer if one.selection is not None else min(one.layer, one.ranked_at) for one in found)
        self.until = min(looks, default=layers)
        self._layout = layout
        self._rows: PackedRows | None = None
        self._mask: tuple[Tensor | None, Tensor] | None = None  # the last one that was packed, and what of
        self._own: Any = None  # the cache layer whose place one for packed tokens holds

    def part(self, index: int, hidden: Tensor) -> Tensor:
        """The input of layer `index`, (B, L, d) again where rows part; behind the last layer, its output."""
        return hidden if index != self.until or self._rows is None else self._rows.unpack(hidden)

    def stores(self, index: int) -> int | None:
        """Rows that layer `index` adds to its cache; None where these are the rows that it runs on."""
        return self._layout.length if index < self.until else None

    def enter(self, index: int, hidden: Tensor, context: Context, cache: Any) -> tuple[Tensor, Context]:
        """The input of layer `index`, packed where rows have not parted, and its context.

        hidden: (B, L, d) in layer 0, then (1, T, d). context: the framework's own, for the batch, at every
        layer. cache: stores what the packed tokens are in a layer of its own until `leave`; or None. Raises
        UnsupportedInputError where the rows do not begin alike.
        """
        if index >= self.until:
            return hidden, context
        if self._rows is None:
            self._rows = self._found(hidden, context)
            hidden = self._rows.pack(hidden)
        if self._mask is None or self._mask[0] is not context.mask:
            self._mask = context.mask, self._rows.mask(context.mask)
        if cache is not None:
            cache.layers.extend(DynamicLayer() for _ in range(index + 1 - len(cache.layers)))
            self._own, cache.layers[index] = cache.layers[index], DynamicLayer()
        rows, rotary = self._rows, context.rotary
        return hidden, replace(
            context,
            rotary=tuple(map(rows.pack, rotary)) if isinstance(rotary, tuple) else rows.pack(rotary),
            position_ids=None if context.position_ids is None else rows.pack_ids(context.position_ids),
            mask=self._mask[1],
        )

    def leave(self, index: int, cache: Any) -> None:
        """Layer `index` has run: its own cache layer gets what every row would have stored alone.

        Raises RoutingError where the packed tokens were not stored.
        """
        if index >= self.until or cache is None:
            return
        assert self._rows is not None
        packed, cache.layers[index], self._own = cache.layers[index], self._own, None
        if stored_rows(packed) != self._rows.width:
            raise RoutingError(
                f"layer {index} was given {self._rows.width} tokens and stored {stored_rows(packed)} under "
                f"{versions()}; {what_is_proven()}"
            )
        keys, values = (states[0][:, self._rows.place] for states in (packed.keys, packed.values))
        cache.layers[index].update(keys.transpose(0, 1), values.transpose(0, 1))

    def _found(self, hidden: Tensor, context: Context) -> PackedRows:
        """Which tokens the rows share: those from the first on whose states and positions are equal, exactly.

        Waits for the device, once a prefill.
        """
        layout = self._layout
        real = layout.text | layout.visual
        columns = real.int().argsort(dim=1, descending=True, stable=True)[:, : min(layout.prompt_counts)]
        rotary = context.rotary if isinstance(context.rotary, tuple) else (context.rotary,)
        same = torch.ones_like(columns[0], dtype=torch.bool)
        for told in (hidden, *rotary):
            mine = gather(told, columns).flatten(2)
            same &= (mine == mine[:1]).all(2).all(0)
        apart = columns - columns[:, :1]
        same &= (apart == apart[:1]).all(0)
        count = int(same.int().cumprod(0).sum())
        ends = zip(layout.prompt_counts, layout.behind, strict=True)
        if count < max(tokens - len(behind) - layout.speculated for tokens, behind in ends):
            raise UnsupportedInputError(
                f"the prompts of this batch share {count} tokens, images and positions from their beginning, "
                "which do not reach the end of their images: leave share_prefix out"
            )
        shared = columns[:, :count]
        own = real.clone()
        own.scatter_(1, shared, False)
        row, column = own.nonzero(as_tuple=True)
        place = torch.zeros_like(real, dtype=torch.long)
        place[own] = torch.arange(count, count + len(row), device=real.device)
        place.scatter_(1, shared, torch.arange(count, device=real.device).expand_as(shared))
        first = torch.zeros_like(shared[0])
        return PackedRows(torch.cat([first, row]), torch.cat([shared[0], column]), place, shared)
