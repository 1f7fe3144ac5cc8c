"""route(model, schedule): run a stock Hugging Face vision-language model under a schedule.

The only file besides vision.py that registers hooks: a pre-hook on the base model starts a prefill, a
pre-hook on every decoder layer narrows its input, a hook on the last layer restores the full length, and a
pair of hooks on the key projection of deciding layers hands over keys that were projected for the ranking.
All of it is undone when the `with` ends. Knows hooks and caches; what a layer sees is decided in prefill.py.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from routing import vision
from routing.cache import RoutedLayer, check_cache, install
from routing.errors import RoutingError, ScheduleError, UnsupportedInputError
from routing.families import Location, locate
from routing.layout import VisualLayout, build_layout
from routing.prefill import Decision, Prefill
from routing.schedule import Action, Pool, Schedule, VisionStage
from routing.scoring import SCORERS, shares_keys
from routing.select import column_mask
from routing.trace import RouteTrace

_PICTURES = ("pixel_values", "pixel_values_videos", "mm_encoder_outputs")


@contextmanager
def route(model: Any, schedule: Schedule) -> Iterator[RouteTrace]:
    """Route every prefill of `model` inside the `with`; yields the trace of what happened.

    model: a loaded Hugging Face vision-language model of a supported family; it is not modified, and is as
    before when the block ends, also by an exception. Keep decoding on a routed cache inside the block. A
    dense schedule hooks and traces nothing. Copies of the model made inside the block stay routed.
    The ranking token is each sample's last prompt token; with an int `logits_to_keep` of n > 1, as assisted
    decoding passes, it is the token n from the end.

    Raises UnsupportedModelError, ScheduleError (schedule and model do not fit) or RoutingError (already
    routed) on entry; calls inside raise UnsupportedInputError for caches, masks and modes that cannot be
    routed.
    """
    location = locate(model)
    _check_fit(schedule, location)
    session = _Session(location, schedule)
    with ExitStack() as hooks:
        if schedule.entries:
            session.attach(model, hooks)
        yield session.trace


class _Call(threading.local):
    """The forward call under way, in each thread its own."""

    prompt: tuple[VisualLayout, Tensor] | None = None  # with its input_ids
    prefill: Prefill | None = None
    speculated: int = 0


class _Session:
    """What the hooks of one `route` share."""

    def __init__(self, location: Location, schedule: Schedule) -> None:
        self.location, self.schedule = location, schedule
        self.trace = RouteTrace()
        self.anchors: vision.VisionCollector | None = None
        self.sharing: frozenset[int] = frozenset()
        self.call = _Call()

    def attach(self, model: Any, hooks: ExitStack) -> None:
        """Register every hook; `hooks` removes them."""
        base, layers = self.location.base, self.location.layers
        if any(
            isinstance(getattr(hook, "__self__", None), _Session) for hook in base._forward_pre_hooks.values()
        ):
            raise RoutingError("this model is being routed already; leave the outer `with` first")
        add = partial(_add, hooks)
        if model is not base:
            add(model.register_forward_pre_hook(self._note_logits, with_kwargs=True))
        add(base.register_forward_pre_hook(self._begin, with_kwargs=True))
        add(base.register_forward_hook(self._end, always_call=True))
        for index, layer in enumerate(layers):
            add(layer.register_forward_pre_hook(partial(self._enter, index), with_kwargs=True))
        add(layers[-1].register_forward_hook(self._leave))
        self.sharing = frozenset(index for index in self._asked() if shares_keys(layers[index]))
        for index in self.sharing:
            add(layers[index].self_attn.k_proj.register_forward_pre_hook(self._spare_keys))
            add(layers[index].self_attn.k_proj.register_forward_hook(self._give_keys))
        if self.schedule.vision is not None:
            self.anchors = vision.attach(
                model, self.location.info.family, self.schedule.vision, self._anchor_count, hooks
            )

    def _asked(self) -> set[int]:
        """Layers whose attention ranks tokens."""
        if SCORERS[self.schedule.scorer] is None:
            return set()
        return {stage.layer if stage.scored_by is None else stage.scored_by for stage in self.schedule.stages}

    def _spare_keys(self, _k_proj: Any, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """A deciding layer is about to project its keys: none, if they are there already."""
        prefill = self.call.prefill
        return (args[0][:, :0],) if prefill is not None and prefill.has_keys else None

    def _give_keys(self, _k_proj: Any, _args: tuple[Any, ...], output: Any) -> Any:
        """It has: hand it those that are there."""
        prefill = self.call.prefill
        return prefill.take_keys() if prefill is not None and prefill.has_keys else output

    def _note_logits(self, _module: Any, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        wanted = kwargs.get("logits_to_keep", 0)
        self.call.speculated = max(0, wanted - 1) if isinstance(wanted, int) else 0

    def _begin(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Base model about to run: note the prompt if this is a prefill with visual tokens."""
        self.call.prompt = self.call.prefill = None
        speculated, self.call.speculated = self.call.speculated, 0
        cache, input_ids = kwargs.get("past_key_values"), args[0] if args else kwargs.get("input_ids")
        if cache is not None and cache.get_seq_length() > 0:
            _refuse_pictures(kwargs)
            return
        if input_ids is None:
            raise UnsupportedInputError(
                "inputs_embeds without input_ids hides where the visual tokens are; pass input_ids"
            )
        visual_ids = torch.tensor(self.location.info.image_token_ids, device=input_ids.device)
        if torch.isin(input_ids, visual_ids).any():
            check_cache(cache)
            _refuse_checkpointing(self.location.layers[0])
            layout = build_layout(input_ids, kwargs.get("attention_mask"), visual_ids, speculated)
            _refuse_piece(layout, kwargs)
            self.call.prompt = layout, input_ids

    def _decisions(self, layout: VisualLayout) -> tuple[Decision, ...]:
        """The schedule in token counts for these samples."""
        counts = [self.schedule.counts(v, self.location.info.layers) for v in layout.visual_counts]
        per_entry = list(zip(*counts, strict=True))
        decisions, limit = [], layout.visual_counts
        if self.schedule.vision is not None:
            decisions.append(self._vision_decision(self.schedule.vision, layout))
            per_entry = per_entry[1:]
            if self.schedule.action is Action.PRUNE or self.schedule.pool is Pool.ANCHORS:
                limit = decisions[0].counts  # every picture rounds by itself: maybe fewer than the ratio's
        for stage, kept in zip(self.schedule.stages, per_entry, strict=True):
            scored_by = stage.layer if stage.scored_by is None else stage.scored_by
            decisions.append(Decision(stage.layer, scored_by, tuple(map(min, kept, limit))))
        return tuple(decisions)

    def _vision_decision(self, stage: VisionStage, layout: VisualLayout) -> Decision:
        assert self.anchors is not None
        anchors = self.anchors.take(layout.visual_counts)
        device = layout.visual.device
        chosen = torch.zeros_like(layout.visual)
        scores = torch.full(chosen.shape, -torch.inf, device=device)
        for row, (columns, found) in enumerate(zip(layout.positions, anchors, strict=True)):
            at = columns.to(device)
            chosen[row, at[found.kept.to(device)]] = True
            if found.scores is not None:
                scores[row, at] = found.scores.to(device)
        counts = tuple(len(found.kept) for found in anchors)
        return Decision(stage.layer, stage.layer, counts, chosen, scores)

    def _anchor_count(self, visual: int) -> int:
        """Anchors of a picture of `visual` tokens."""
        return self.schedule.counts(visual, self.location.info.layers)[0]

    def _enter(
        self, index: int, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """A decoder layer is about to run."""
        cache = kwargs.get("past_key_values")
        if self.call.prompt is None:
            return self._continue(index, args, kwargs, cache)
        if self.call.prefill is None:  # only now have the pictures been encoded
            layout, input_ids = self.call.prompt
            self.call.prefill = Prefill(
                self.schedule, self._decisions(layout), layout, input_ids, self.sharing
            )
        hidden, rest = (args[0], args[1:]) if args else (kwargs["hidden_states"], ())
        kwargs = {name: value for name, value in kwargs.items() if name != "hidden_states"}
        hidden, kwargs = self.call.prefill.enter(index, layer, hidden, kwargs)
        rows = self.call.prefill.rows
        if rows is not None:
            if self.location.attention.startswith("flash"):
                kwargs["position_ids"] = None  # ids with gaps would be read as packed sequences
            if cache is not None:
                check_cache(cache)
                install(cache, index, RoutedLayer(rows, self.call.prefill.layout.speculated))
        return (hidden, *rest), kwargs

    def _continue(
        self, index: int, args: tuple[Any, ...], kwargs: dict[str, Any], cache: Any
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Decoding, or a later turn: give a layer the mask of what it has stored."""
        if cache is None or index >= len(cache.layers) or not isinstance(cache.layers[index], RoutedLayer):
            return None
        stored, mask = cache.layers[index], kwargs.get("attention_mask")
        if not stored.get_seq_length() or (mask is None and not stored.ragged):
            return None
        new = (args[0] if args else kwargs["hidden_states"]).shape[1]
        columns = stored.stored_columns(new)
        if mask is None and self.location.attention.startswith("flash"):
            mask = (columns >= 0).long()
        else:
            mask = column_mask(mask, columns, new)
        return args, {**kwargs, "attention_mask": mask}

    def _leave(self, _layer: Any, _args: tuple[Any, ...], output: Any) -> Any:
        """The last decoder layer has run: back to full length."""
        if self.call.prefill is None:
            return output
        if isinstance(output, tuple):
            return (self.call.prefill.leave(output[0]), *output[1:])
        return self.call.prefill.leave(output)

    def _end(self, _module: Any, _args: tuple[Any, ...], output: Any) -> None:
        """The base model has run, or raised: record the prefill and forget its state."""
        prompt, prefill = self.call.prompt, self.call.prefill
        self.call.prompt = self.call.prefill = None
        if prompt is None or output is None:
            return
        if prefill is None or not prefill.finished:
            raise RoutingError("the model ran without passing through the layers of its schedule")
        self.trace._add(prefill.trace())


def _add(hooks: ExitStack, handle: Any) -> None:
    hooks.callback(handle.remove)


def _refuse_pictures(kwargs: dict[str, Any]) -> None:
    """Refuse pictures that arrive on a used cache."""
    given = [kwargs.get(name) for name in _PICTURES]
    if any(isinstance(value, Tensor) or value for value in given):
        raise UnsupportedInputError(
            "new pictures on a used cache (a later turn, or prefill_chunk_size) cannot be routed; "
            "give the whole conversation as one prompt on a fresh cache"
        )


def _refuse_checkpointing(layer: Any) -> None:
    """Refuse gradient checkpointing, which runs layers again when the prefill is long over."""
    if layer.training and torch.is_grad_enabled() and getattr(layer, "gradient_checkpointing", False):
        raise UnsupportedInputError(
            "a routed prefill can't be recomputed layer by layer: call model.gradient_checkpointing_disable()"
        )


def _refuse_piece(layout: VisualLayout, kwargs: dict[str, Any]) -> None:
    """Refuse the first piece of a chunked prefill, whose last token is not the prompt's.

    It stops within or behind the pictures, or its mask or positions are the left part of longer ones.
    """
    if (
        not layout.ends_in_text
        or _is_left_part(kwargs.get("attention_mask"))
        or _is_left_part(kwargs.get("position_ids"))
    ):
        raise UnsupportedInputError(
            "a prompt must be whole and end in text after its last picture, and this looks like a piece of a "
            "chunked prefill: set prefill_chunk_size to None (or clone() a mask that you cut yourself)"
        )


def _is_left_part(columns: Tensor | None) -> bool:
    """Whether (..., B, L) is a view of the first L columns of something longer."""
    if columns is None or columns.ndim < 2:
        return False
    return columns.storage_offset() == 0 and columns.stride(-2) > columns.shape[-1]


def _check_fit(schedule: Schedule, location: Location) -> None:
    """Raise ScheduleError unless the schedule fits the model's depth and first routable layer."""
    info = location.info
    if not isinstance(schedule, Schedule):
        raise ScheduleError(f"the schedule must be a routing.Schedule, got {schedule!r}")
    if schedule.scorer not in SCORERS:
        raise ScheduleError(f"scorer must be one of {', '.join(SCORERS)}, got {schedule.scorer!r}")
    schedule.counts(1, info.layers)
    asked = [layer for layer, _ in schedule.entries] + [
        stage.scored_by for stage in schedule.stages if stage.scored_by is not None
    ]
    if asked and min(asked) < info.first_layer:
        raise ScheduleError(
            f"layer {min(asked)} cannot decide: {info.family} adds vision features after layers "
            f"0..{info.first_layer - 1}, so the first decision is at layer {info.first_layer} or later"
        )
