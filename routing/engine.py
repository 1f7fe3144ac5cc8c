"""routed(location, schedule): run a stock Hugging Face vision-language model under a schedule.

The only file besides vision.py that places hooks: a pre-hook on the base model starts a prefill, a pre-hook
on every decoder layer narrows its input, a hook on the last layer restores the full length, and a pair of
hooks on the key projection of deciding layers hands over keys that were projected for the ranking. All of it
is undone when the `with` ends. Knows hooks and caches; what a layer sees is decided in prefill.py.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from routing import vision
from routing.cache import RoutedLayer, check_cache, install, stored_rows
from routing.decisions import check_fit, decisions
from routing.errors import RoutingError, UnsupportedInputError, UnsupportedModelError
from routing.families import Location
from routing.hooks import Hooks, is_routed
from routing.host import (
    BASE_ROLES,
    HEAD_ROLES,
    LAYER_ROLES,
    OPTIONAL_ROLES,
    Binding,
    Role,
    bind,
    cache_of,
    check_layer,
    compiled_call,
    final_norm,
)
from routing.layout import VisualLayout, build_layout
from routing.methods import SCORERS, SELECTIONS
from routing.prefill import Context, Prefill
from routing.prefix import SharedPrefix, why_not_shared
from routing.proof import Proof, RoutedCache, RoutedCaches, check_keys_taken, check_mask_width, layer_of
from routing.refusals import (
    refuse_checkpointing,
    refuse_counting,
    refuse_pictures,
    refuse_piece,
    refuse_tail,
)
from routing.schedule import Schedule
from routing.scoring import is_plain, shares_keys
from routing.select import column_mask, streams_first, tokens_first
from routing.trace import RouteTrace
from routing.vision.repeats import encode_repeats_once


@contextmanager
def routed(location: Location, schedule: Schedule, *, share_prefix: bool = False) -> Iterator[RouteTrace]:
    """`routing.route` for a model whose parts were located, proven or not."""
    check_fit(schedule, location.info)
    if share_prefix and (why := why_not_shared(location)):
        raise UnsupportedModelError(why)
    trace = RouteTrace()
    with Hooks(routes=True) as hooks:
        if schedule.entries or share_prefix:
            _Session(location, schedule, trace, share_prefix).attach(hooks)
        yield trace


class _Call(threading.local):
    """The forward call under way, in each thread its own."""

    prompt: tuple[VisualLayout, Tensor] | None = None  # with its input_ids
    prefill: Prefill | None = None
    prefix: SharedPrefix | None = None
    proof: Proof | None = None  # of a prefill, or of decoding on a routed cache
    entries: dict[int, RoutedLayer] = {}  # noqa: RUF012  # replaced at each call, never written to
    rotary: dict[str | None, Any] = {}  # noqa: RUF012  # likewise: by type of layer, None where all have one
    columns: dict[int, Tensor] = {}  # noqa: RUF012  # likewise: of keys that later layers use, by layer
    masks: dict[Any, tuple[Any, ...]] = {}  # noqa: RUF012  # likewise: of decoded tokens, by what is stored
    speculated: int = 0

    def forget(self) -> None:
        """Begin anew."""
        self.prompt = self.prefill = self.prefix = self.proof = None
        self.entries = {}
        self.columns = {}
        self.masks = {}
        self.rotary = {}


class _Session:
    """What the hooks of one `route` share."""

    def __init__(
        self, location: Location, schedule: Schedule, trace: RouteTrace, share_prefix: bool = False
    ) -> None:
        self.location, self.schedule, self.trace = location, schedule, trace
        self.share_prefix = share_prefix
        self.anchors: vision.VisionCollector | None = None
        scorer = SCORERS[schedule.scorer]
        ranked = schedule.stages if scorer.looks else ()
        asked = {location.info.ranking(stage.ranking_layer) for stage in ranked}
        self.asked = frozenset(
            index for index in asked if index is not None and is_plain(location.layers[index])
        )
        self.sharing: frozenset[int] = frozenset()
        self.watched: frozenset[int] = frozenset()
        self.routed = RoutedCaches()
        self.call = _Call()
        self.base = bind(location.base, BASE_ROLES)
        found = [bind(layer, LAYER_ROLES, optional=OPTIONAL_ROLES) for layer in location.layers]
        told = location.info.filed  # of positions, in every layer
        may_lack = {Role.LAYER_INPUTS} if told else OPTIONAL_ROLES
        absent = {role for role in may_lack if not any(names.takes(role) for names in found)}
        self.layer = [bind(layer, LAYER_ROLES, optional=absent) for layer in location.layers]
        self.kinds = location.info.kinds
        self.lent = frozenset(location.info.producers.values())
        self.norm = final_norm(location.decoder) if scorer.compares else None

    def attach(self, hooks: Hooks) -> None:
        """Place every hook; `hooks` removes them."""
        base, layers = self.location.base, self.location.layers
        if is_routed(base):
            raise RoutingError("this model is being routed already; leave the outer `with` first")
        heads = self.location.heads
        own = next((head for head in reversed(heads) if hasattr(type(head), "generate")), None)
        for head in heads:
            hooks.before(
                head, partial(self._note_logits, bind(head, HEAD_ROLES, passed_on=self._passes(head, own)))
            )
        hooks.before(base, self._begin)
        hooks.after(base, self._end, always=True)
        for index in self.asked:
            check_layer(layers[index])
        self.sharing = frozenset(index for index in self.asked if shares_keys(layers[index]))
        self.watched = frozenset(index for index in self.asked if compiled_call(layers[index]) is None)
        for index, layer in enumerate(layers):
            hooks.around(layer, partial(self._enter, index), partial(self._leave, index))
        for index in self.watched:
            hooks.before(layers[index].input_layernorm, partial(self._norm, index))
        for index in self.sharing:
            hooks.before(layers[index].self_attn.k_proj, self._spare_keys)
            hooks.after(layers[index].self_attn.k_proj, self._give_keys)
        rotary = getattr(self.location.decoder, "rotary_emb", None)
        if rotary is not None and not all(kind.ranks for kind in self.kinds):
            hooks.after(rotary, self._note_rotary, kwargs=True)
        stage = self.schedule.vision
        if stage is not None and SELECTIONS[stage.selection].at_the_tower:
            family = self.location.info.family
            self.anchors = vision.attach(base, family, stage, self._anchor_count, hooks)
        if self.share_prefix:
            encode_repeats_once(base, self.anchors, hooks)
        hooks.keep_compiled(base)

    def _passes(self, head: Any, own: Any) -> bool:
        """Whether a head passes on what its forward does not name; that of a family with a file names all."""
        return head is not own or not self.location.info.filed

    def _note_rotary(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Position embeddings were made, of one type of layer or of all."""
        named = (value for value in (*args, *kwargs.values()) if isinstance(value, str))
        self.call.rotary[next(named, None)] = output

    def _rotary_of(self, layer: int) -> Any:
        """The position embeddings that a layer will be given."""
        types = getattr(self.location.decoder.config, "layer_types", None)
        made = self.call.rotary
        return made.get(types[layer], made.get(None)) if types else made.get(None)

    def _spare_keys(
        self, _k_proj: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Skip the key projection of a layer whose keys were projected for the ranking."""
        prefill = self.call.prefill
        return ((args[0][:, :0],), kwargs) if prefill is not None and prefill.has_keys else None

    def _give_keys(self, _k_proj: Any, _args: tuple[Any, ...], output: Any) -> Any:
        """Hand the layer the keys that were projected for the ranking, where there are any."""
        prefill = self.call.prefill
        return prefill.take_keys() if prefill is not None and prefill.has_keys else output

    def _norm(self, index: int, _norm: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The input norm of a ranking layer is about to run."""
        if self.call.proof is not None:
            self.call.proof.norms(index, next(iter((*args, *kwargs.values())), None))

    def _note_logits(self, names: Binding, _head: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        wanted = names.read(Role.LOGITS_TO_KEEP, args, kwargs)
        self.call.speculated = max(0, wanted - 1) if isinstance(wanted, int) else 0

    def _begin(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Base model about to run: note the prompt if this is a prefill with visual tokens."""
        self.call.forget()
        speculated, self.call.speculated = self.call.speculated, 0
        cache, input_ids = (self.base.read(role, args, kwargs) for role in (Role.CACHE, Role.INPUT_IDS))
        known = self.routed.find(cache)
        if cache is not None and cache.get_seq_length() > 0:
            refuse_pictures(kwargs)
            if known is not None:
                self.call.entries = known.entries
                real = self.base.read(Role.ATTENTION_MASK, args, kwargs)
                self.call.proof = self._proof(cache, None, known.padded, real)
            return
        if input_ids is None:
            raise UnsupportedInputError(
                "inputs_embeds without input_ids hides where the visual tokens are; pass input_ids"
            )
        if cache is not None:
            self.routed.forget(cache)  # it was reset
        ids = input_ids.cpu()
        visual = torch.isin(ids, torch.tensor(self.location.info.image_token_ids, device="cpu"))
        if visual.any():
            check_cache(cache)
            refuse_checkpointing(self.location.layers[0])
            mask = self.base.read(Role.ATTENTION_MASK, args, kwargs)
            layout = build_layout(ids, mask, visual, input_ids.device, speculated)
            refuse_piece(layout, mask, self.base.read(Role.POSITION_IDS, args, kwargs))
            self.call.prompt = layout, input_ids
            self.call.proof = self._proof(cache, layout, layout.padded)

    def _proof(self, cache: Any, layout: VisualLayout | None, padded: bool, real: Any = None) -> Proof:
        attention = self.location.attention
        not_causal = attention == "eager" or self.location.family.bidirectional
        return Proof(
            kinds=self.kinds,
            fixed=self.location.info.first_layer,
            needs_mask=not_causal if layout is not None else not attention.startswith("flash"),
            cache=cache,
            layout=layout,
            padded=padded,
            real=real,
            some_without_rotary=not self.location.info.filed,
        )

    def _anchor_count(self, visual: int) -> int:
        """Anchors of a picture of `visual` tokens."""
        return self.schedule.counts(visual, self.location.info.layers)[0]

    def _enter(
        self, index: int, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """A decoder layer is about to run."""
        names, proof = self.layer[index], self.call.proof
        hidden, mask, cache = (
            names.read(role, args, kwargs) for role in (Role.HIDDEN_STATES, Role.ATTENTION_MASK, Role.CACHE)
        )
        if proof is None:
            return None
        proof.enters(index, hidden, mask, cache, kwargs)
        if self.call.prompt is None:
            proof.runs_on(hidden, stored_rows(layer_of(cache, index)))
            return self._continue(index, args, kwargs, cache)
        if self._is_tail(index, hidden):
            refuse_tail(self.call.prompt[0], hidden.shape[-2])
            proof.runs_on(hidden, 0)
            return self._continue(index, args, kwargs, cache)
        rotary = names.read(Role.POSITION_EMBEDDINGS, args, kwargs)
        proof.check_rotary(index, rotary)
        if self.call.prefill is None:  # only now have the pictures been encoded
            self._start(*self.call.prompt)
        prefill, prefix = self.call.prefill, self.call.prefix
        assert prefill is not None
        hidden = tokens_first(hidden)
        if prefix is not None:
            hidden = prefix.part(index, hidden)
        compact, context = prefill.enter(index, layer, hidden, Context.of(names, args, kwargs))
        if cache is not None and prefill.reduces:
            self._store(index, cache, prefill)
        if prefix is not None:
            compact, context = prefix.enter(index, compact, context, cache)
        if prefill.rows is not None and self.location.attention.startswith("flash"):
            context = replace(context, position_ids=None)  # with gaps they would be read as packed sequences
        args, kwargs = context.call(compact)
        stores = None if prefix is None else prefix.stores(index)
        proof.runs_on(names.read(Role.HIDDEN_STATES, args, kwargs), 0, stores)
        return args, kwargs

    def _start(self, layout: VisualLayout, input_ids: Tensor) -> None:
        """The first layer of a prefill is about to run."""
        found = decisions(self.schedule, self.location.info, layout, self.anchors)
        self.call.prefill = Prefill(
            self.schedule,
            found,
            layout,
            input_ids,
            self.location.layers,
            self.kinds,
            self.sharing,
            self._rotary_of,
            self.norm,
        )
        if self.call.prefill.reduces:
            refuse_counting(self.location.layers, layout.length)
        if self.share_prefix and len(input_ids) > 1:
            self.call.prefix = SharedPrefix(layout, found, self.location.info.layers)

    def _is_tail(self, index: int, hidden: Tensor) -> bool:
        """Whether a layer without keys of its own runs on the last tokens of a prefill alone."""
        prefill = self.call.prefill
        if prefill is None or not self.kinds[index].borrows:
            return False
        return hidden.shape[-2] < (prefill.layout.length if prefill.rows is None else prefill.rows.width)

    def _store(self, index: int, cache: Any, prefill: Prefill) -> None:
        """Make the cache layer of a decoder layer about to run one that knows which tokens it holds.

        A window needs one before the first decision, too: all of them then have masks of the same width.
        """
        check_cache(cache)
        kind, rows, layout = self.kinds[index], prefill.rows, prefill.layout
        if not kind.ranks or (rows is None and not kind.forgets):
            return
        rows = prefill.everything if rows is None else rows
        masked = not self.location.attention.startswith("flash")
        self.call.entries[index] = RoutedLayer(rows, layout.speculated, masked=masked)
        install(cache, index, self.call.entries[index])
        if index in self.lent:
            self.call.columns[index] = rows.index

    def _continue(
        self, index: int, args: tuple[Any, ...], kwargs: dict[str, Any], cache: Any
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Decoding, or a later turn: give a layer the mask of what it, or the layer it uses, has stored."""
        producer = self.location.info.producers.get(index, index)
        stored, names = self.call.entries.get(producer), self.layer[index]
        mask = names.read(Role.ATTENTION_MASK, args, kwargs)
        if stored is None or (mask is None and not stored.ragged):
            return None
        new = names.read(Role.HIDDEN_STATES, args, kwargs).shape[-2]
        if producer == index:
            check_mask_width(index, mask, stored.get_seq_length() + new)
        columns, mask = self._mask_of(stored, self.call.columns.get(producer), mask, new)
        if index in self.lent:
            self.call.columns[index] = columns
        return names.write(Role.ATTENTION_MASK, mask, args, kwargs)

    def _mask_of(
        self, stored: RoutedLayer, columns: Tensor | None, mask: Tensor | None, new: int
    ) -> tuple[Tensor, Tensor | None]:
        """Columns (B, S + new) of stored keys and the mask of `new` queries over them.

        Made once for all layers that have stored the same. columns: those of a layer whose keys are used.
        """
        key = id(stored.columns), stored.get_seq_length(), stored.dropped, id(columns), id(mask)
        if key not in self.call.masks:
            seen = stored.stored_columns(new) if columns is None else columns
            if mask is None and self.location.attention.startswith("flash"):
                made: Tensor | None = (seen >= 0).long()
            else:
                made = column_mask(mask, seen, new)
            held = stored.columns, columns, mask  # so that no other tensor gets their ids
            self.call.masks[key] = seen, made, held
        seen, made, _ = self.call.masks[key]
        return seen, made

    def _leave(self, index: int, _layer: Any, _args: tuple[Any, ...], output: Any) -> Any:
        """A decoder layer has run; behind the last one, a prefill is brought back to full length."""
        prefill, prefix, proof = self.call.prefill, self.call.prefix, self.call.proof
        if proof is None:
            return output
        if prefix is not None:
            prefix.leave(index, proof.cache)
        watched = prefill is not None and index in self.watched
        proof.leaves(index, output, self.call.entries.get(index), watched)
        if prefill is None:
            return output
        check_keys_taken(index, prefill.has_keys)
        hidden = output[0] if isinstance(output, tuple) else output
        if index + 1 < self.location.info.layers or self._is_tail(index, hidden):
            return output
        several = isinstance(output, tuple)
        hidden = tokens_first(hidden)
        if prefix is not None:
            hidden = prefix.part(index + 1, hidden)
        hidden = streams_first(prefill.leave(hidden))
        return (hidden, *output[1:]) if several else hidden

    def _end(self, _module: Any, _args: tuple[Any, ...], output: Any) -> None:
        """The base model has run, or raised: record the prefill and forget its state."""
        call = self.call
        prefill, proof, entries = call.prefill, call.proof, call.entries
        routed = call.prompt is not None
        call.forget()
        if proof is None or output is None:
            return
        proof.ends(None if isinstance(output, tuple) else cache_of(output))
        if not routed:
            return
        assert prefill is not None
        assert prefill.finished
        if proof.cache is not None:
            self.routed.note(proof.cache, RoutedCache(entries, proof.padded))
        self.trace._add(prefill.trace())
