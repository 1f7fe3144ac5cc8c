"""Towers with a merger of their own: Qwen's and GLM's, which make one token of 2x2 patches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from routing.errors import UnsupportedInputError
from routing.families.encoders import MergedStage
from routing.hooks import Hooks
from routing.host import (
    DOWNSAMPLED_TOWER_PARTS,
    MERGED_BLOCK_PARTS,
    MERGED_TOWER_PARTS,
    VISION_ROTATE,
    WINDOWED_TOWER_PARTS,
    beside,
    given,
    part,
)
from routing.methods.selection import Need, Seen
from routing.vision.attention import attention_received, window_order
from routing.vision.collector import Encoded, VisionCollector
from routing.vision.hooked import Call, HookedTower, Output

STATES = (7 / 32, 23 / 32)  # Qwen compares the mean of the outputs of blocks 7 to 23 of 32


class MergedTower(HookedTower):
    """Tokens are chosen behind the merger, in the decoder's space.

    Whatever is asked of the patches is the mean over each merge group; hidden states pass the merger.
    Whatever the tower keeps in window order is brought back to raster order. Features that deepstack models
    inject into later decoder layers stay plain.
    """

    def __init__(self, base: Any, stage: MergedStage, scorer: str, collector: VisionCollector) -> None:
        super().__init__(collector)
        self.refuse_class_scores(scorer)
        self.tower, self._downsampled = part(base, "visual"), stage.downsampled
        self._windowed = getattr(self.tower.config, "window_size", None) is not None
        more = WINDOWED_TOWER_PARTS * self._windowed + DOWNSAMPLED_TOWER_PARTS * self._downsampled
        for path in (*MERGED_TOWER_PARTS, *more):
            part(self.tower, path)
        blocks = part(self.tower, "blocks")
        for path in MERGED_BLOCK_PARTS:
            part(blocks[-1], path)
        self._rotate = beside(blocks[-1].attn, VISION_ROTATE)
        first, last = (min(round(part * len(blocks)), len(blocks) - 1) for part in STATES)
        self._compared = blocks[first : last + 1]
        asked = self.asked_layers(blocks, len(blocks) - 1)
        self._asked = {name: block.attn for name, block in asked.items()}
        self._grids: list[tuple[int, int]] = []  # of tokens
        self._running = self.tower  # or a copy of it with other weights

    def register(self, hooks: Hooks) -> None:
        """Place all hooks of this tower."""
        hooks.before(self.tower, self._start)
        self.watch(hooks)
        hooks.after(self.tower, self._finish)

    def watch(self, hooks: Hooks) -> None:
        """Place the hooks that catch what is asked for while the tower runs."""
        for name, attention in self._asked.items():
            self.catch(hooks, name, attention.qkv)
            self.note(hooks, f"{name} told", attention)
        for block in self._compared if Need.STATES in self.needs else ():
            hooks.after(block, self.add_state)

    def _start(self, tower: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.note_images(tower, args, kwargs)
        self.begin()

    def note_images(self, tower: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note the grids of tokens; raises UnsupportedInputError for videos."""
        shapes = self._shapes(args, kwargs).tolist()
        if any(frames != 1 for frames, _, _ in shapes):
            raise UnsupportedInputError("a selection at the vision tower reduces pictures, not videos")
        merge = tower.spatial_merge_size
        self._grids = [(height // merge, width // merge) for _, height, width in shapes]
        self._running = tower

    def _shapes(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """Frames, rows and columns of patches (N, 3) of a call."""
        shapes: Tensor = args[1] if len(args) > 1 else given(kwargs, "grid_thw", self.tower)
        return shapes

    def alone(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Call]:
        """Its own patches, which stand one image after another, and its grid; none where there are videos."""
        shapes = self._shapes(args, kwargs)
        if not args or bool((shapes[:, 0] != 1).any()):
            return []
        sizes: list[int] = shapes.prod(dim=1).tolist()
        patches = torch.split(args[0], sizes)
        return [
            ((own,), {**kwargs, "grid_thw": shape})
            for own, shape in zip(patches, torch.split(shapes, 1), strict=True)
        ]

    def kept(self, output: Any) -> Output:
        """The merged tokens, and those of deepstack models for later decoder layers."""
        fields: Output = {"pooler_output": part(output, "pooler_output")}
        if (deep := getattr(output, "deepstack_features", None)) is not None:
            fields["deepstack_features"] = tuple(deep)
        return fields

    def _finish(self, _tower: Any, _args: tuple[Any, ...], output: Any) -> Any:
        features = part(output, "pooler_output")
        output.pooler_output = self.reduced(lambda: self._reduce(features))
        return output

    def _reduce(self, features: Tensor) -> Tensor:
        """(sum of V, d) features of all images, in raster order, with what was merged in its place."""
        images = []
        split = torch.split(features, self._sizes)
        for tokens, grid, own in zip(split, self._grids, self.found(), strict=True):
            moved: dict[str, Any] = {name: value.to(tokens.device) for name, value in own.items()}
            images.append(Encoded(Seen(tokens, grid, **moved)))
        return torch.cat(self.collector.reduce(images))

    @property
    def _sizes(self) -> list[int]:
        """Tokens of each image."""
        return [height * width for height, width in self._grids]

    def derived(self) -> list[dict[str, Tensor]]:
        """What is asked of each image's tokens, in raster order, by fields of `Seen`."""
        found = self._ranked()
        if Need.STATES in self.needs:
            mean = given(self.caught, "states", self.tower) / len(self._compared)
            found["states"] = self._merged(mean.to(self.caught["dtype"]))
        if self._windowed:
            cells = self.tower.window_size // self.tower.spatial_merge_size // self.tower.patch_size
            raster = window_order(self._grids, cells).argsort()
            found = {name: tokens[raster.to(tokens.device)] for name, tokens in found.items()}
        parts = {name: torch.split(tokens, self._sizes) for name, tokens in found.items()}
        return [{name: split[number] for name, split in parts.items()} for number in range(len(self._grids))]

    @torch.no_grad()
    def _merged(self, states: Tensor) -> Tensor:
        """Hidden states (patches, c) as the tower makes tokens of its last ones: (sum of V, d) float32."""
        tower = self._running
        if self._downsampled:
            side = tower.spatial_merge_size
            squares = tower.post_layernorm(states).view(-1, side, side, states.shape[-1])
            states = tower.downsample(squares.permute(0, 3, 1, 2)).flatten(1)
        merged: Tensor = tower.merger(states)
        return merged.float()

    @torch.no_grad()
    def _ranked(self) -> dict[str, Tensor]:
        """Of all images' tokens, in the tower's order: the fields of `Seen` that follow from attention."""
        found: dict[str, Tensor] = {}
        for name, attention in self._asked.items():
            told, group = given(self.caught, f"{name} told", attention), self.tower.spatial_merge_size**2
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
