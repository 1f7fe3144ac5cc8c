"""One prefill under one schedule: which tokens each decoder layer sees.

The state of a prefill lives in this object and dies with it. Between decisions the sequence stays compact;
at a decision the full sequence is put together again (reroute) or the survivors are thinned (prune). Knows
tensors and decoder layers, but registers no hooks and touches no cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from routing.decisions import Decision
from routing.errors import ScheduleError
from routing.hooks import Scoring
from routing.host import PER_TOKEN_ROLES, Binding, Role
from routing.kinds import LayerKind
from routing.layout import VisualLayout
from routing.methods import SCORERS, Selection
from routing.methods.method import Sight
from routing.methods.selection import Need, Seen
from routing.schedule import Action, Pool, Schedule
from routing.scoring import first_keys, is_plain, score
from routing.select import (
    Rows,
    everything,
    gather,
    pack,
    padding_mask,
    scatter,
    spread,
    square_mask,
    streams_first,
    top_k,
    uploaded,
    within,
)
from routing.trace import PrefillTrace, StageTrace


@dataclass(frozen=True)
class Context:
    """What a decoder layer is told beside its hidden states, for S rows.

    rotary: cos and sin, (B | 1, S, r), or one tensor of that shape; None where the layer takes none.
    position_ids: (B | 1, S), also with axes before, or None. mask: None (causal), (B, S) padding or
    (B | 1, 1, S, S). inputs: (B, S, c) of this layer alone, or None. args, kwargs: the whole call, which the
    other fields were read from by `names`.
    """

    names: Binding
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    rotary: Any
    position_ids: Tensor | None
    mask: Tensor | None
    inputs: Tensor | None = None

    @classmethod
    def of(cls, names: Binding, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Context:
        """The context of a call of a decoder layer."""
        return cls(names, args, kwargs, *(names.read(role, args, kwargs) for role in PER_TOKEN_ROLES))

    def call(self, hidden: Tensor, **changed: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the call on `hidden` (B, S, ...) with these fields.

        changed: other roles by their names, in upper case.
        """
        values = zip(PER_TOKEN_ROLES, (self.rotary, self.position_ids, self.mask, self.inputs), strict=True)
        given = ((Role[name], value) for name, value in changed.items())
        args, kwargs = self.args, dict(self.kwargs)
        for role, value in ((Role.HIDDEN_STATES, streams_first(hidden)), *values, *given):
            if value is not self.names.read(role, args, kwargs):
                args, kwargs = self.names.write(role, value, args, kwargs)
        return args, kwargs


class Prefill:
    """Follows one prefill through the decoder layers, in order.

    input_ids: (B, L), read by scorers that draw only. layers, kinds: the decoder's. sharing: layers that
    take over key projections, see `take_keys`. rotary_of: layer -> its position embeddings, for decisions at
    layers that are given none.
    """

    def __init__(
        self,
        schedule: Schedule,
        decisions: tuple[Decision, ...],
        layout: VisualLayout,
        input_ids: Tensor,
        layers: Sequence[Any],
        kinds: Sequence[LayerKind],
        sharing: frozenset[int] = frozenset(),
        rotary_of: Callable[[int], Any] = lambda _layer: None,
        norm: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._schedule, self._decisions, self.layout = schedule, decisions, layout
        self._input_ids, self._layers, self._kinds, self._sharing = input_ids, layers, kinds, sharing
        self._rotary_of, self._norm = rotary_of, norm
        self._rows: Rows | None = None  # None: the sequence is full
        self._full: Tensor | None = None  # (B, L, d) as of the last decision; deferred tokens live here
        self._ours = False  # nobody else holds `_full`: it may be written into
        self._merged: Tensor | None = None  # the compact hidden states that `_full` holds already
        self._keys: Tensor | None = None  # key projections of all candidates, in this layer
        self._kept = layout.visual
        self._counts = layout.visual_counts
        self._ranked: dict[int, Tensor] = {}
        self._selected: tuple[Tensor, Tensor] | None = None  # at the decoder's entrance, for decision 0
        self._anchors: Tensor | None = None  # (B, L) bool, what a decision before the decoder kept
        self._compact: dict[tuple[int, str | None], tuple[Any, Any]] = {}
        self._stages: list[StageTrace] = []
        self._scorer, self._scoring = SCORERS[schedule.scorer], Scoring()
        self._entrance: Tensor | None = None  # (B, L, d), what enters the decoder, until text is rated by it

    @property
    def finished(self) -> bool:
        """Every decision has been taken."""
        return len(self._stages) == len(self._decisions)

    @property
    def reduces(self) -> bool:
        """Some decision leaves tokens out."""
        return any(decision.counts != self.layout.visual_counts for decision in self._decisions)

    @cached_property
    def everything(self) -> Rows:
        """The full sequence as rows, made once."""
        return everything(self.layout.visual)

    @property
    def rows(self) -> Rows | None:
        """What the sequence consists of now; None while it is full."""
        return self._rows

    def trace(self) -> PrefillTrace:
        """What has happened so far."""
        return PrefillTrace(tuple(self._stages), self.layout.visual_counts, self.layout.prompt_counts)

    def enter(self, index: int, layer: Any, hidden: Tensor, context: Context) -> tuple[Tensor, Context]:
        """The input of decoder layer `index`: hidden (B, W, d), and its context for those rows.

        context is the framework's own, for the full sequence, at every layer.
        """
        self._keys = None
        if index == 0 and self._scorer.rate is not None:
            self._entrance = hidden
        if index == 0 and self._decisions and (selection := self._decisions[0].selection) is not None:
            self._selected = self._scoring(lambda: self._select(selection, hidden))
        for number, decision in enumerate(self._decisions):
            if decision.selection is None and decision.ranked_at == index and decision.layer > index:
                self._ranked[number] = self._score(number, index, layer, hidden, context)
            if decision.layer == index:
                hidden = self._decide(number, index, layer, hidden, context)
        self._merged = None
        return hidden, context if self._rows is None else self._narrow(context, self._kinds[index])

    @property
    def has_keys(self) -> bool:
        """The layer entered last has its keys projected already: by `take_keys` it gets them."""
        return self._keys is not None

    def take_keys(self) -> Tensor:
        """Its key projection (B, W, H_kv * D), once."""
        keys, self._keys = self._keys, None
        assert keys is not None
        if self._rows is not None and self._schedule.action is Action.REROUTE:
            return gather(keys, self._rows.safe)
        return keys

    def leave(self, hidden: Tensor) -> Tensor:
        """The decoder's output at full length (B, L, d): deferred tokens as they were, removed ones zero."""
        if self._rows is None:
            return hidden
        if self._full is None:
            shape = (hidden.shape[0], self.layout.length, *hidden.shape[2:])
            return scatter(hidden.new_zeros(shape), self._rows, hidden, in_place=not torch.is_grad_enabled())
        return self._restored(hidden)

    def _decide(self, number: int, index: int, layer: Any, hidden: Tensor, context: Context) -> Tensor:
        decision = self._decisions[number]
        keep, ranked = self._choose(number, index, layer, hidden, context)
        if self._scorer.merge is not None and ranked is not None and decision.by_layer:
            hidden, keep = self._scoring(lambda: self._merge(hidden, ranked, decision.counts))
        before = self._kept if self._stages else None
        asked = ranked is not None and decision.by_layer and self._scorer.looks
        by = decision.scored_by if asked else None
        self._stages.append(StageTrace(decision.layer, keep, before, ranked, self.layout, by))
        if number == 0 and self._schedule.vision is not None:
            self._anchors = keep
        if keep is not self._kept:
            hidden = self._move(hidden, keep, decision.counts)
            self._kept, self._counts = keep, decision.counts
        return hidden

    def _choose(
        self, number: int, index: int, layer: Any, hidden: Tensor, context: Context
    ) -> tuple[Tensor, Tensor | None]:
        """The kept columns (B, L) of a decision, and the scores (B, L) if any were needed.

        Nothing is scored where the count leaves no choice; where nothing changes, `_kept` itself returns.
        """
        decision, ranked = self._decisions[number], self._ranked.pop(number, None)
        candidates = self._candidates
        if decision.counts == self.layout.visual_counts:
            return self.layout.visual, None
        if candidates is self._kept and decision.counts == self._counts:
            return self._kept, None
        if decision.chosen is not None:
            return decision.chosen, decision.scores
        if decision.selection is not None:
            assert self._selected is not None
            return self._selected
        ranked = self._score(number, index, layer, hidden, context) if ranked is None else ranked
        ranked = ranked.masked_fill(~candidates, -torch.inf)
        return top_k(ranked, candidates, decision.counts), ranked

    @property
    def _candidates(self) -> Tensor:
        """(B, L) bool: what a decision may choose from now."""
        if self._schedule.action is Action.PRUNE:
            return self._kept
        if self._anchors is None or self._schedule.pool is Pool.ALL:
            return self.layout.visual
        return self._anchors

    @torch.no_grad()
    def _select(self, selection: Selection, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """What a selection keeps (B, L) and the scores it leaves behind, on the decoder's input (B, L, d)."""
        stage = self._schedule.vision
        assert stage is not None
        keep = torch.zeros_like(self.layout.visual)
        scores = torch.full(keep.shape, -torch.inf, device=keep.device)
        rows, seen, counts = [], [], []
        for row, columns in enumerate(self.layout.positions):
            at, count = columns.to(hidden.device), self._decisions[0].counts[row]
            if count == len(columns):
                keep[row, at] = True
                continue
            behind = self.layout.behind[row].to(hidden.device)
            asked = hidden[row, behind].flatten(1) if Need.TEXT in selection.needs else None
            rows.append((row, at))
            seen.append(Seen(hidden[row, at].flatten(1), text=asked))
            counts.append(count)
        found = selection.choose(seen, counts, stage) if seen else []
        for (row, at), chosen in zip(rows, found, strict=True):
            if chosen.features is not None:
                raise ScheduleError(f"{stage.selection} merges features, which is done at towers alone")
            keep[row, at[chosen.kept]] = True
            scores[row, at] = chosen.scores
        return keep, scores

    def _merge(self, hidden: Tensor, ranked: Tensor, counts: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """The states of now with what the scorer merged into some, and the columns (B, L) that are kept."""
        merge, width, keep = self._scorer.merge, hidden.shape[1], torch.zeros_like(self._kept)
        assert merge is not None
        candidates = self._kept if self._rows is None else within(self._rows, self._kept)
        places = torch.arange(width, device=keep.device).where(candidates, width).sort(dim=1).values
        hidden = hidden.clone()
        for row, (now, count) in enumerate(zip(self._counts, counts, strict=True)):
            at = places[row, :now]
            columns = at if self._rows is None else self._rows.index[row, at]
            if count < now:
                kept, states = merge(hidden[row, at], ranked[row, columns], count)
                hidden[row, at[kept]] = states
                columns = columns[kept]
            keep[row].index_fill_(0, columns, True)
        return hidden, keep

    def _move(self, hidden: Tensor, keep: Tensor, counts: tuple[int, ...]) -> Tensor:
        """From the rows of now to those of text plus `keep`."""
        sizes = tuple(t + k for t, k in zip(self.layout.text_counts, counts, strict=True))
        new = pack(self.layout.text | keep, sizes)
        self._compact = {}
        if self._schedule.action is Action.REROUTE:
            self._full = self._restored(hidden)
            hidden = gather(self._full, new.safe)
        else:
            whole, kept = self._rows, self.layout.text | keep
            inner = new if whole is None else pack(within(whole, kept), sizes)
            hidden = gather(hidden, inner.safe)
            self._keys = None if self._keys is None else gather(self._keys, inner.safe)
        self._rows = new
        if counts == self.layout.visual_counts and not self.layout.padded:
            self._rows, self._full, self._ours = None, None, False
        return hidden

    def _restored(self, hidden: Tensor) -> Tensor:
        """The sequence at full length (B, L, d), put together once for each `hidden`.

        The first time in a buffer of its own, since others may hold what `_full` was before, and from then
        on in that one, unless gradients are recorded.
        """
        if self._rows is None or self._full is None:
            return hidden
        if self._merged is not hidden:
            self._full = scatter(self._full, self._rows, hidden, in_place=self._ours)
            self._merged, self._ours = hidden, not torch.is_grad_enabled()
        return self._full

    def _score(self, number: int, index: int, layer: Any, hidden: Tensor, context: Context) -> Tensor:
        """(B, L) float32 scores of decision `number` on the input of layer `index`."""
        if not self._scorer.looks:
            return self._random(number, hidden.device)
        decision, rows, kind = self._decisions[number], self._rows, self._kinds[index]
        asked = layer if decision.scored_by == index else self._layers[decision.scored_by]
        own, inside = self._own_width(decision), rows
        if self._schedule.action is Action.REROUTE:
            inside, hidden = None, self._restored(hidden)
        if not kind.ranks and context.rotary is None:
            context = replace(context, rotary=self._rotary_of(decision.scored_by))
        if inside is not None:
            context = self._narrow(context, kind)
        if (
            not kind.ranks
        ):  # its own mask is not one of attention: (B, S) of what is no padding serves any layer
            real = self.layout.text | self.layout.visual if self.layout.padded else None
            context = replace(context, mask=real if inside is None else inside.valid)
        ranked = self._ask(asked, hidden, own, self._sight(decision, inside, hidden), context)
        return ranked if inside is None else spread(inside, ranked, -torch.inf)

    def _sight(self, decision: Decision, inside: Rows | None, hidden: Tensor) -> Sight:
        """What a ranking sees of the rows of now, or of the full sequence, before its layer is asked."""
        weights = states = None
        if self._scorer.rate is not None:
            columns, weights = self._scoring(lambda: self._raters)
            asking = columns if inside is None else torch.searchsorted(inside.index.contiguous(), columns)
        else:
            last = self.layout.query
            if inside is not None:
                last = torch.full_like(last, inside.width - 1 - self.layout.speculated)
            offsets = torch.arange(1 - self._scorer.rows, 1, device=last.device)
            asking = (last[:, None] + offsets).clamp(min=0)
        candidates, behind = self._candidates, self.layout.question
        if inside is not None:
            candidates, behind = within(inside, candidates), within(inside, behind)
        if self._scorer.compares:
            assert self._norm is not None
            with torch.no_grad():
                states = self._norm(hidden if hidden.ndim == 3 else hidden[:, :, 0])
        return Sight(asking, weights, candidates, behind, decision.counts, states=states)

    @cached_property
    def _raters(self) -> tuple[Tensor, Tensor]:
        """Columns and weights (B, R) of the text that asks; in a row of text alone its last token does."""
        behind, device = self.layout.behind, self.layout.query.device
        most = self._scorer.asking(map(len, behind))
        columns = self.layout.query[:, None].repeat(1, most)
        for row, own in enumerate(behind):
            columns[row, most - len(own) :] = uploaded(own, device)
        first = uploaded(torch.tensor([most - max(1, len(own)) for own in behind], device="cpu"), device)
        entrance, self._entrance = self._entrance, None
        assert entrance is not None
        assert self._scorer.rate is not None
        entrance = entrance if entrance.ndim == 3 else entrance[:, :, 0]
        there = torch.arange(most, device=device) >= first[:, None]
        with torch.no_grad():
            weights = self._scorer.rate(entrance, self.layout.visual, gather(entrance, columns), there)
        return columns, weights

    def _own_width(self, decision: Decision) -> int:
        """Rows on which the layer that scores a decision itself will run; 0 if it takes over no keys.

        Keys of tokens that something is merged into before they get there are not its own.
        """
        if decision.scored_by not in self._sharing or decision.scored_by != decision.ranked_at:
            return 0
        if decision.layer == decision.scored_by:
            if self._scorer.merge is not None:
                return 0
            return max(map(sum, zip(self.layout.text_counts, decision.counts, strict=True)))
        return self.layout.length if self._rows is None else self._rows.width

    def _ask(self, layer: Any, hidden: Tensor, own: int, sight: Sight, context: Context) -> Tensor:
        normed, known = hidden, None
        if is_plain(layer):
            normed = layer.input_layernorm(hidden)
            known = None if self._keys is None else self._keys.flatten(0, 1)
            if known is None and own:
                known = first_keys(layer.self_attn.k_proj, normed, own)
        ranked: Tensor
        ranked, keys = self._scoring(lambda: score(self._scorer, layer, normed, known, sight, context))
        self._keys = keys if own else None
        return ranked

    def _random(self, number: int, device: torch.device) -> Tensor:
        scores, draw = torch.zeros(self._input_ids.shape, device="cpu"), self._scorer.draw
        assert draw is not None
        for row, (columns, prompt) in enumerate(zip(self.layout.positions, self._prompts, strict=True)):
            scores[row, columns] = draw(self._schedule.seed, number, prompt, len(columns))
        return uploaded(scores, device)

    @cached_property
    def _prompts(self) -> list[list[int]]:
        """Each sample's real tokens, read once."""
        ids, real = self._input_ids.cpu(), (self.layout.visual | self.layout.text).cpu()
        return [row[here].tolist() for row, here in zip(ids, real, strict=True)]

    def _narrow(self, context: Context, kind: LayerKind) -> Context:
        """The framework's full-length context, for the rows of now; gathered once a stage."""
        assert self._rows is not None
        rows, rotary = self._rows, context.rotary
        cut = {"mask": square_mask, "padding": padding_mask, "nothing": lambda *_: None}[kind.told]
        return replace(
            context,
            rotary=(
                tuple(self._once(part, self._gathered) for part in rotary)
                if isinstance(rotary, tuple)
                else self._once(rotary, self._gathered)
            ),
            position_ids=self._once(context.position_ids, self._gathered_ids),
            mask=self._once(context.mask, lambda full: cut(full, rows), mask_of=kind.told),
            inputs=None if context.inputs is None else self._gathered(context.inputs),
        )

    def _gathered(self, full: Tensor) -> Tensor:
        assert self._rows is not None
        return gather(full, self._rows.safe)

    def _gathered_ids(self, full: Tensor) -> Tensor:
        """Of (..., B | 1, L), such as the three axes of M-RoPE."""
        if full.ndim <= 2:
            return self._gathered(full)
        return torch.stack([self._gathered_ids(part) for part in full])

    def _once(self, original: Any, make: Callable[[Any], Any], mask_of: str | None = None) -> Any:
        """make(original), remembered while the rows stay the same; of None for masks alone."""
        if original is None and mask_of is None:
            return None
        key = id(original), mask_of
        if key not in self._compact:
            self._compact[key] = (original, make(original))
        return self._compact[key][1]
