"""What selections ask of vision towers, caught by hooks on an unmodified model.

While images are encoded, the hooks read the projections of a layer or two and a running sum of hidden states,
nothing that was not asked for. Where features leave the tower, each image's tokens are shown to the selection
and merged features put in the place of their centres. All other visual tokens keep their plain features: the
model still scatters V features into its prompt, and removing or deferring the rest is the engine's work.

Knows the insides of the towers in `TOWERS`. Knows no decoder, no cache and no prompt; its state lives in
objects owned by one `attach`, never on a module.

Towers without a CLS token follow Nuwa's Qwen2.5-VL variant (175b7d5) with four bugs mended: similarity
features were left in window order while scores and positions were in raster order; anchors that fell into
padding were lost; only the first picture of the first sample was reduced; every block was made to keep its
whole attention (here: one block, in slices).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from routing.errors import UnsupportedInputError, UnsupportedModelError
from routing.families.family import CLASS_TOKENS, VisionStages
from routing.hooks import Hooks
from routing.host import (
    MERGED_BLOCK_PARTS,
    MERGED_TOWER_PARTS,
    PATCH_TOWER_PARTS,
    VISION_ROTATE,
    WINDOWED_TOWER_PARTS,
    beside,
    given,
    part,
)
from routing.methods.selection import Need, Seen
from routing.towers import SHALLOW_LAYER
from routing.vision.attention import attention_received, cls_attention, window_order
from routing.vision.collector import PatchScoring, VisionCollector

PATCH_STATES = 16 / 24  # LLaVA compares the mean of hidden states 16 to 24 of 24
MERGED_STATES = (7 / 32, 23 / 32)  # Qwen compares the mean of the outputs of blocks 7 to 23 of 32
RANKED = {Need.ATTENTION, Need.RECEIVED, Need.KEYS}  # what follows from the projections of the ranking layer

_NO_CLS = "this vision tower has no CLS token to score by: use VisionStage(scorer='column_mean')"


class _Tower(threading.local):
    """What the hooks of all towers share: tensors caught during one encoding, and who gets them.

    Each thread has its own, so that two of them can encode with one model.
    """

    def __init__(self, collector: VisionCollector) -> None:
        self.collector, self.needs = collector, collector.needs
        self.scoring = PatchScoring()
        self.caught: dict[str, Tensor] = {}

    def asked_layers(self, layers: Any, ranking: int) -> dict[str, Any]:
        """The layers whose projections are asked for, by name. ranking: the one that makes the features."""
        shallow = min(round(SHALLOW_LAYER * len(layers)), ranking)
        named = (("ranking", ranking, RANKED), ("shallow", shallow, {Need.SHALLOW}))
        return {name: layers[place] for name, place, wanted in named if self.needs & wanted}

    def begin(self) -> None:
        self.caught.clear()
        self.collector.begin()

    def add_state(self, _layer: nn.Module, _args: tuple[Any, ...], output: Tensor) -> None:
        state = output.detach().float()
        if "states" in self.caught:
            state = state + self.caught["states"].to(state.device)
        self.caught["states"] = state

    def catch(self, hooks: Hooks, name: str, linear: nn.Module) -> None:
        """Keep the output of a linear map of the tower under a name."""

        def keep(_linear: nn.Module, _args: tuple[Any, ...], output: Tensor) -> None:
            self.caught[name] = output.detach()

        hooks.after(linear, keep)

    def reduced(self, work: Callable[[], Tensor]) -> Tensor:
        features: Tensor = self.scoring(work)
        self.caught.clear()
        return features


class _PatchTower(_Tower):
    """CLIP or SigLIP under LLaVA: patches are chosen where they leave the tower, before the projector.

    Attention is that of the layer whose output the projector reads: its projections are caught as it runs, so
    only the CLS row (or column sums) of one attention is computed beside the model's own work.
    """

    def __init__(self, base: Any, scorer: str, collector: VisionCollector) -> None:
        super().__init__(collector)
        self._tower, self._projector = part(base, "vision_tower"), part(base, "multi_modal_projector")
        self._class_tokens = _class_tokens(base.config)
        if scorer == "cls" and Need.ATTENTION in self.needs and not self._class_tokens:
            raise UnsupportedModelError(_NO_CLS)
        layers = part(self._tower, "encoder.layers")
        ranking = _scored_layer(base.config.vision_feature_layer, len(layers))
        asked = self.asked_layers(layers, ranking)
        for layer in asked.values():
            for path in PATCH_TOWER_PARTS:
                part(layer, path)
        self._asked = {name: layer.self_attn for name, layer in asked.items()}
        self._compared = layers[max(1, round(PATCH_STATES * len(layers))) - 1 :]
        self._patch_size = part(self._tower, "config.patch_size")
        self._grid = (0, 0)

    def register(self, hooks: Hooks) -> None:
        """Place all hooks of this tower."""
        hooks.before(self._tower, self._start)
        for name, attention in self._asked.items():
            self.catch(hooks, f"{name} query", attention.q_proj)
            self.catch(hooks, f"{name} key", attention.k_proj)
        for layer in self._compared if Need.STATES in self.needs else ():
            hooks.after(layer, self.add_state)
        hooks.before(self._projector, self._project)

    def _start(self, _tower: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        pixels, patch = args[0] if args else given(kwargs, "pixel_values", self._tower), self._patch_size
        self._grid = (pixels.shape[-2] // patch, pixels.shape[-1] // patch)
        self.begin()

    def _project(
        self, _projector: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if not self.caught:
            return None
        return (self.reduced(lambda: self._reduce(args[0])), *args[1:]), kwargs

    def _reduce(self, features: Tensor) -> Tensor:
        """(B, P, d) patches of B images, with what was merged in its place."""
        images = [
            Seen(patches, self._grid, **self._ranked(number, patches.device))
            for number, patches in enumerate(features)
        ]
        return torch.stack([self.collector.reduce(image) for image in images])

    @torch.no_grad()
    def _ranked(self, image: int, device: torch.device) -> dict[str, Tensor]:
        """What is asked of one image beside its features: by fields of `Seen`."""
        found, skip = {}, self._class_tokens
        if Need.STATES in self.needs:
            states = given(self.caught, "states", self._tower)
            found["states"] = states[image, skip:] / len(self._compared)
        for name, attention in self._asked.items():
            query, key = (
                given(self.caught, f"{name} {which}", attention)[image] for which in ("query", "key")
            )
            query, key = (one.view(len(one), attention.num_heads, -1) for one in (query, key))
            if name == "shallow":
                found["shallow"] = attention_received(query, key, attention.scale)[skip:]
                continue
            if Need.ATTENTION in self.needs:
                found["attention"] = cls_attention(query, key, attention.scale)
            if Need.RECEIVED in self.needs:
                found["received"] = attention_received(query, key, attention.scale)[skip:]
            if Need.KEYS in self.needs:
                found["keys"] = key[skip:].float().mean(dim=1)
        return {name: tensor.to(device) for name, tensor in found.items()}


class _MergedTower(_Tower):
    """Qwen: a merger makes one token of 2x2 patches; tokens are chosen behind it, in the decoder's space.

    Whatever is asked of the patches is the mean over each merge group. Whatever the tower keeps in window
    order is brought back to raster order. Features that deepstack models inject into later decoder layers
    stay plain.
    """

    def __init__(self, base: Any, scorer: str, collector: VisionCollector) -> None:
        super().__init__(collector)
        if scorer == "cls" and Need.ATTENTION in self.needs:
            raise UnsupportedModelError(_NO_CLS)
        self._tower = part(base, "visual")
        self._windowed = getattr(self._tower.config, "window_size", None) is not None
        for path in (*MERGED_TOWER_PARTS, *(WINDOWED_TOWER_PARTS if self._windowed else ())):
            part(self._tower, path)
        blocks = part(self._tower, "blocks")
        for path in MERGED_BLOCK_PARTS:
            part(blocks[-1], path)
        self._rotate = beside(blocks[-1].attn, VISION_ROTATE)
        first, last = (min(round(part * len(blocks)), len(blocks) - 1) for part in MERGED_STATES)
        self._compared = blocks[first : last + 1]
        asked = self.asked_layers(blocks, len(blocks) - 1)
        self._asked = {name: block.attn for name, block in asked.items()}
        self._told: dict[str, dict[str, Any]] = {}
        self._grids: list[tuple[int, int]] = []

    def register(self, hooks: Hooks) -> None:
        """Place all hooks of this tower."""
        hooks.before(self._tower, self._start)
        for name, attention in self._asked.items():
            self.catch(hooks, name, attention.qkv)
            self._note(hooks, name, attention)
        for block in self._compared if Need.STATES in self.needs else ():
            hooks.after(block, self.add_state)
        hooks.after(self._tower, self._finish)

    def _note(self, hooks: Hooks, name: str, attention: nn.Module) -> None:
        """Keep what an attention is told of its segments and positions."""

        def keep(_attention: nn.Module, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._told[name] = kwargs

        hooks.before(attention, keep)

    def _start(self, _tower: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        shapes = (args[1] if len(args) > 1 else given(kwargs, "grid_thw", self._tower)).tolist()
        if any(frames != 1 for frames, _, _ in shapes):
            raise UnsupportedInputError("a selection at the vision tower reduces pictures, not videos")
        merge = self._tower.spatial_merge_size
        self._grids = [(height // merge, width // merge) for _, height, width in shapes]
        self.begin()

    def _finish(self, tower: Any, _args: tuple[Any, ...], output: Any) -> Any:
        features = part(output, "pooler_output")
        output.pooler_output = self.reduced(lambda: self._reduce(tower.merger, features))
        self._told = {}
        return output

    def _reduce(self, merger: nn.Module, features: Tensor) -> Tensor:
        """(sum of V, d) features of all images, in raster order, with what was merged in its place."""
        found = self._ranked()
        if Need.STATES in self.needs:
            mean = given(self.caught, "states", self._tower) / len(self._compared)
            with torch.no_grad():
                found["states"] = merger(mean.to(features.dtype)).float()
        if self._windowed:
            cells = self._tower.window_size // self._tower.spatial_merge_size // self._tower.patch_size
            raster = window_order(self._grids, cells).argsort()
            found = {name: tokens[raster.to(tokens.device)] for name, tokens in found.items()}
        sizes = [height * width for height, width in self._grids]
        parts = {name: torch.split(tokens.to(features.device), sizes) for name, tokens in found.items()}
        images = [
            Seen(tokens, grid, **{name: split[number] for name, split in parts.items()})
            for number, (tokens, grid) in enumerate(
                zip(torch.split(features, sizes), self._grids, strict=True)
            )
        ]
        return torch.cat([self.collector.reduce(image) for image in images])

    @torch.no_grad()
    def _ranked(self) -> dict[str, Tensor]:
        """Of all images' tokens, in the tower's order: the fields of `Seen` that follow from attention."""
        found: dict[str, Tensor] = {}
        for name, attention in self._asked.items():
            told, group = self._told[name], self._tower.spatial_merge_size**2
            projected = given(self.caught, name, attention)
            query, key, _ = projected.view(len(projected), 3, attention.num_heads, -1).unbind(1)
            if name == "ranking" and Need.KEYS in self.needs:
                found["keys"] = key.float().mean(dim=1).view(-1, group, key.shape[-1]).mean(dim=1)
            if name == "ranking" and Need.RECEIVED not in self.needs:
                continue
            query, key = self._rotate(query, key, *given(told, "position_embeddings", attention))
            sizes = given(told, "cu_seqlens", attention).diff().tolist()
            segments = zip(torch.split(query, sizes), torch.split(key, sizes), strict=True)
            received = torch.cat([attention_received(q, k, attention.scaling) for q, k in segments])
            field = "shallow" if name == "shallow" else "received"
            found[field] = received.view(-1, group).mean(dim=1)
        return found


TOWERS: dict[VisionStages, type[_PatchTower] | type[_MergedTower]] = {
    VisionStages.PATCHES: _PatchTower,
    VisionStages.MERGED: _MergedTower,
}


def _class_tokens(config: Any) -> int:
    """1 for CLIP with its CLS token cropped, 0 for SigLIP; raises UnsupportedModelError for anything else."""
    kind = (config.vision_config.model_type, config.vision_feature_select_strategy)
    class_tokens = CLASS_TOKENS.get(kind[0])
    if class_tokens is None or kind[1] != ("default" if class_tokens else "full"):
        raise UnsupportedModelError(
            "the vision stage works on a CLIP tower with select strategy 'default' or a SigLIP tower "
            f"with 'full', not on {kind[0]!r} with {kind[1]!r}"
        )
    return class_tokens


def _scored_layer(selected: Any, layers: int) -> int:
    """The encoder layer whose output is `hidden_states[selected]`."""
    if not isinstance(selected, int):
        raise UnsupportedModelError(
            f"the vision stage needs one vision feature layer, this model joins {selected}"
        )
    layer = selected - 1 if selected >= 0 else selected + layers
    if not 0 <= layer < layers:
        raise UnsupportedModelError(
            f"no encoder layer makes vision feature layer {selected}: the tower has {layers} layers"
        )
    return layer
