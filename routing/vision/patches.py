"""Encoders behind whose patches a module of the base model makes visual tokens: CLIP, SigLIP, Pixtral, ...

Patches are in raster order, image after image. Where squares of them become one token, whatever is asked of
the patches is the mean over the square, and the features are those that the square's first linear map reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from routing.errors import UnsupportedModelError
from routing.families.encoders import ENCODERS, Encoder, PatchStage
from routing.families.family import number, setting
from routing.hooks import Hooks
from routing.host import ROTATE, beside, given, part
from routing.methods.selection import Need, Seen
from routing.vision.attention import attention_received, cls_attention, square_means
from routing.vision.collector import Encoded, VisionCollector
from routing.vision.hooked import Call, HookedTower, Output

STATES = 16 / 24  # LLaVA compares the mean of hidden states 16 to 24 of 24


class PatchTower(HookedTower):
    """Tokens are chosen where features enter the module behind the tower.

    Attention is that of the layer whose output this module reads, of joined layers the deepest: its
    projections are caught as it runs, so only the CLS row (or column sums) of one attention is computed
    beside the model's own work. Tiles are images of their own. Patches that a tower is told are padding take
    no part in attention.
    """

    def __init__(self, base: Any, stage: PatchStage, scorer: str, collector: VisionCollector) -> None:
        super().__init__(collector)
        self._base = base
        self.tower, self._exit = part(base, stage.tower), part(base, stage.exit)
        self._encoder = encoder = _encoder(base.config)
        if not encoder.class_tokens:
            self.refuse_class_scores(scorer)
        layers = part(self.tower, encoder.layers)
        self._joined = _joined(base.config, len(layers))
        asked = self.asked_layers(layers, self._joined[-1] - 1)
        self._asked = {name: part(layer, encoder.attention) for name, layer in asked.items()}
        for attention in self._asked.values():
            for path in (encoder.query, encoder.key, encoder.scale, "num_heads"):
                part(attention, path)
        self._compared = layers[max(1, round(STATES * len(layers))) - 1 :]
        self._patch, self._side = number(part(self.tower, "config"), "patch_size"), stage.side(base.config)
        self._grids: list[tuple[int, int]] = []  # of patches
        self._real: Tensor | None = None  # (images, rows, columns) bool

    def register(self, hooks: Hooks) -> None:
        """Place all hooks of this tower."""
        hooks.before(self.tower, self._start)
        self.watch(hooks)
        self.hook_exit(hooks)

    def watch(self, hooks: Hooks) -> None:
        """Place the hooks that catch what is asked for while the tower runs."""
        for name, attention in self._asked.items():
            self.catch(hooks, f"{name} query", part(attention, self._encoder.query))
            self.catch(hooks, f"{name} key", part(attention, self._encoder.key))
            if self._encoder.turned:
                self.note(hooks, f"{name} told", attention)
        for layer in self._compared if Need.STATES in self.needs else ():
            hooks.after(layer, self.add_state)

    def hook_exit(self, hooks: Hooks) -> None:
        """Place the hook where features leave."""
        hooks.before(self._exit, self._leave)

    def _start(self, tower: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.note_images(tower, args, kwargs)
        self.begin()

    def note_images(self, tower: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note the grids of patches, and which patches are no padding."""
        pixels = args[0] if args else given(kwargs, "pixel_values", tower)
        told = kwargs.get("image_sizes")
        sizes = [pixels.shape[-2:]] * len(pixels) if told is None else torch.as_tensor(told).tolist()
        self._grids = [(height // self._patch, width // self._patch) for height, width in sizes]
        self._real = kwargs.get("patch_attention_mask")

    def alone(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Call]:
        """A row of every tensor, the pixels cut to the image's own size where a tower is told of one."""
        named = dict(zip(("pixel_values",), args, strict=False)) | kwargs
        rows = {name for name, value in named.items() if isinstance(value, Tensor) or name == "image_sizes"}
        calls: list[Call] = []
        for row in range(len(given(named, "pixel_values", self.tower))):
            own = {name: value[row : row + 1] if name in rows else value for name, value in named.items()}
            if own.get("image_sizes") is not None:
                ((height, width),) = torch.as_tensor(own["image_sizes"]).tolist()
                own["pixel_values"] = own["pixel_values"][..., :height, :width]
            calls.append(((), own))
        return calls

    def kept(self, output: Any) -> Output:
        """The hidden states that become features, and the last where it does or none are put out."""
        states, fields = output.hidden_states, Output()
        if states is not None:
            fields["hidden_states"] = tuple(
                state if place in self._joined else None for place, state in enumerate(states)
            )
        if states is None or self._joined[-1] == len(states) - 1:
            fields["last_hidden_state"] = output.last_hidden_state
        return fields

    def _leave(
        self, _exit: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if not self.caught:
            return None
        return (self.reduced(lambda: self._reduce(args[0])), *args[1:]), kwargs

    def _reduce(self, features: Tensor) -> Tensor:
        """Features (..., c) of all images' tokens, with what was merged in its place."""
        side = self._side
        grids = [(rows // side, columns // side) for rows, columns in self._grids]
        tokens = torch.split(features.flatten(0, -2), [rows * columns for rows, columns in grids])
        images = []
        for one, grid, patches, found in zip(tokens, grids, self._grids, self.found(), strict=True):
            means = {name: square_means(value, patches, side) for name, value in found.items()}
            moved: dict[str, Any] = {name: value.to(one.device) for name, value in means.items()}
            images.append(Encoded(Seen(one, grid, **moved)))
        return torch.cat(self.collector.reduce(images)).view_as(features)

    @torch.no_grad()
    def derived(self) -> list[dict[str, Tensor]]:
        """What is asked of each image's patches, in raster order, by fields of `Seen`."""
        skip = self._encoder.class_tokens
        lengths = [rows * columns + skip for rows, columns in self._grids]
        images: list[dict[str, Tensor]] = [{} for _ in lengths]
        if Need.STATES in self.needs:
            states = given(self.caught, "states", self.tower).flatten(0, -2) / len(self._compared)
            for image, own in zip(images, states.split(lengths), strict=True):
                image["states"] = own[skip:]
        for name, attention in self._asked.items():
            for image, ranked in zip(images, self._ranked(name, attention, lengths), strict=True):
                image.update(ranked)
        return images

    def _ranked(self, name: str, attention: Any, lengths: list[int]) -> Iterator[dict[str, Tensor]]:
        """The fields of `Seen` that follow from one attention, image by image. lengths: CLS included."""
        encoder, skip, shallow = self._encoder, self._encoder.class_tokens, name == "shallow"
        query, key = (
            given(self.caught, f"{name} {which}", attention)
            .flatten(0, -2)
            .unflatten(-1, (attention.num_heads, -1))
            for which in ("query", "key")
        )
        plain, scale = key.split(lengths), part(attention, encoder.scale)
        if encoder.turned:
            turns = given(given(self.caught, f"{name} told", attention), "position_embeddings", attention)
            query, key = beside(attention, ROTATE)(query, key, *turns, unsqueeze_dim=1)
        real = [None] * len(lengths) if self._real is None else self._real.flatten(1)
        for q, k, own, there in zip(query.split(lengths), key.split(lengths), plain, real, strict=True):
            found = {}
            if Need.KEYS in self.needs and not shallow:
                found["keys"] = own[skip:].float().mean(dim=1)
            if Need.ATTENTION in self.needs and skip and not shallow:
                found["attention"] = cls_attention(q, k, scale)
            if shallow or Need.RECEIVED in self.needs:
                field = "shallow" if shallow else "received"
                found[field] = attention_received(q, k, scale, there)[skip:]
            yield found


def _encoder(config: Any) -> Encoder:
    """What is known of a config's tower; UnsupportedModelError if nothing is, or if not all patches enter."""
    kind = config.vision_config.model_type
    if kind not in ENCODERS:
        raise UnsupportedModelError(
            f"tokens are chosen at towers of type {', '.join(ENCODERS)}: not at {kind!r}"
        )
    wanted = "default" if ENCODERS[kind].class_tokens else "full"
    strategy = setting(config, "vision_feature_select_strategy", wanted)
    if strategy != wanted:
        raise UnsupportedModelError(
            f"tokens are chosen at a {kind} tower with select strategy {wanted!r}, not with {strategy!r}"
        )
    return ENCODERS[kind]


def _joined(config: Any, layers: int) -> list[int]:
    """Ascending places in `hidden_states` of what features are made of; the last is the output of a layer."""
    selected = setting(config, "vision_feature_layer", setting(config, "vision_feature_layers", -1))
    joined = [selected] if isinstance(selected, int) else list(selected)
    places = sorted(one if one >= 0 else one + layers + 1 for one in joined)
    if not 0 < places[-1] <= layers:
        raise UnsupportedModelError(
            f"no encoder layer makes vision feature layer {selected}: the tower has {layers} layers"
        )
    return places
