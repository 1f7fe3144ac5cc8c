"""Reduction at the vision tower's output: Nuwa's first stage, as hooks on an unmodified model.

While pictures are encoded, the hooks read the attention of one layer and a running sum of hidden states; each
picture's anchors are chosen and their features replaced by an aggregate of their surroundings. All other
visual tokens keep their plain features: the model still scatters V features into its prompt, and removing or
deferring the rest is the engine's work, which asks `VisionCollector.take` which tokens were kept.

Knows the insides of the vision towers in `TOWERS`. Knows no decoder, no cache and no prompt; its state lives
in objects owned by one `attach`, never on a module.

Source: Nuwa (the released code, 175b7d5); the mathematics is in routing/anchors.py. Towers without a CLS
token follow its Qwen2.5-VL variant with four bugs mended: similarity features were left in window order while
scores and positions were in raster order; anchors that fell into padding were lost; only the first picture of
the first sample was reduced; every block was made to keep its whole attention (here: one block, in slices).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from routing.anchors import (
    RADIUS,
    Grid,
    VisionCollector,
    attention_received,
    cls_attention,
    window_order,
)
from routing.errors import ScheduleError, UnsupportedInputError, UnsupportedModelError
from routing.families import family_of, no_vision_stage
from routing.families.family import CLASS_TOKENS, Missing, VisionStages
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
from routing.schedule import VisionStage

__all__ = ["TOWERS", "VisionCollector", "attach"]

PATCH_STATES = 16 / 24  # LLaVA compares the mean of hidden states 16 to 24 of 24
MERGED_STATES = (7 / 32, 23 / 32)  # Qwen compares the mean of the outputs of blocks 7 to 23 of 32

_NO_CLS = "this vision tower has no CLS token to score by: use VisionStage(scorer='column_mean')"


def attach(
    base: Any, family: str, stage: VisionStage, count: Callable[[int], int], hooks: Hooks
) -> VisionCollector:
    """Hook the vision tower of the base model; closing `hooks` leaves it as it was.

    family: a key of FAMILIES. count: visual tokens of a picture -> how many of them to keep (1 .. V). With
    keep_ratio 1.0 nothing is hooked. Returns what the engine asks for the kept tokens, once the pictures have
    been encoded: in generate() that is before the base model runs, in a plain forward it is within.
    Raises UnsupportedModelError where this stage cannot work, ScheduleError for an unknown scorer.
    """
    if stage.scorer not in RADIUS:
        raise ScheduleError(f"the vision stage is scored by {' or '.join(RADIUS)}, got {stage.scorer!r}")
    kind = family_of(family).vision_stage
    if isinstance(kind, Missing):
        raise UnsupportedModelError(no_vision_stage(family))
    collector = VisionCollector(stage, count)
    tower = TOWERS[kind](base, stage.scorer, collector)
    if stage.keep_ratio < 1.0:
        tower.register(hooks)
    return collector


class PatchScoring(nn.Module):
    """Runs the reduction's own arithmetic, so that FLOP counters bill it under this name."""

    def forward(self, work: Callable[[], Any]) -> Any:
        """The result of `work`."""
        return work()


class _Tower(threading.local):
    """What the hooks of both kinds of tower share: tensors caught during one encoding, and who gets them.

    Each thread has its own, so that two of them can encode with one model.
    """

    def __init__(self, collector: VisionCollector) -> None:
        self.collector = collector
        self.scoring = PatchScoring()
        self.caught: dict[str, Tensor] = {}

    def begin(self) -> None:
        self.caught.clear()
        self.collector.begin()

    def add_state(self, _layer: nn.Module, _args: tuple[Any, ...], output: Tensor) -> None:
        state = output.detach().float()
        if "states" in self.caught:
            state = state + self.caught["states"].to(state.device)
        self.caught["states"] = state

    def reduced(self, work: Callable[[], Tensor]) -> Tensor:
        features: Tensor = self.scoring(work)
        self.caught.clear()
        return features


class _PatchTower(_Tower):
    """CLIP or SigLIP under LLaVA: patches are aggregated where they leave the tower, before the projector.

    Scores come from the layer whose output the projector reads: its projections are caught as it runs, so
    only the CLS row (or column sums) of one attention is computed beside the model's own work.
    """

    def __init__(self, base: Any, scorer: str, collector: VisionCollector) -> None:
        super().__init__(collector)
        self._tower, self._projector = part(base, "vision_tower"), part(base, "multi_modal_projector")
        self._scorer = scorer
        self._class_tokens = _class_tokens(base.config)
        if scorer == "cls" and not self._class_tokens:
            raise UnsupportedModelError(_NO_CLS)
        layers = part(self._tower, "encoder.layers")
        scored = layers[_scored_layer(base.config.vision_feature_layer, len(layers))]
        for path in PATCH_TOWER_PARTS:
            part(scored, path)
        self._attention = scored.self_attn
        self._compared = layers[max(1, round(PATCH_STATES * len(layers))) - 1 :]
        self._patch_size = part(self._tower, "config.patch_size")
        self._grid: Grid = (0, 0)

    def register(self, hooks: Hooks) -> None:
        """Place all hooks of this tower."""
        hooks.before(self._tower, self._start)
        hooks.after(self._attention.q_proj, self._catch_query)
        hooks.after(self._attention.k_proj, self._catch_key)
        for layer in self._compared:
            hooks.after(layer, self.add_state)
        hooks.before(self._projector, self._project)

    def _start(self, _tower: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        pixels, patch = args[0] if args else given(kwargs, "pixel_values", self._tower), self._patch_size
        self._grid = (pixels.shape[-2] // patch, pixels.shape[-1] // patch)
        self.begin()

    def _catch_query(self, _linear: nn.Module, _args: tuple[Any, ...], output: Tensor) -> None:
        self.caught["query"] = output.detach().view(*output.shape[:-1], self._attention.num_heads, -1)

    def _catch_key(self, _linear: nn.Module, _args: tuple[Any, ...], output: Tensor) -> None:
        self.caught["key"] = output.detach().view(*output.shape[:-1], self._attention.num_heads, -1)

    def _project(
        self, _projector: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if not self.caught:
            return None
        return (self.reduced(lambda: self._reduce(args[0])), *args[1:]), kwargs

    def _reduce(self, features: Tensor) -> Tensor:
        """(B, P, d) patches of B pictures, with the anchors aggregated."""
        states = given(self.caught, "states", self._tower)[:, self._class_tokens :]
        query, key = (given(self.caught, name, self._attention) for name in ("query", "key"))
        scores = [self._scores(*image) for image in zip(query, key, strict=True)]
        images = zip(features, states, scores, strict=True)
        return torch.stack([self.collector.reduce(*image, self._grid) for image in images])

    @torch.no_grad()
    def _scores(self, query: Tensor, key: Tensor) -> Tensor:
        """(P,) scores of the patches of one picture from (T, H, D) queries and keys."""
        if self._scorer == "cls":
            return cls_attention(query, key, self._attention.scale)
        return attention_received(query, key, self._attention.scale)[self._class_tokens :]


class _MergedTower(_Tower):
    """Qwen: a merger makes one token of 2x2 patches; aggregation follows it, in the decoder's space.

    Scores are the attention received in the last block, averaged over each merge group. Whatever the tower
    keeps in window order is brought back to raster order. Features that deepstack models inject into later
    decoder layers stay plain.
    """

    def __init__(self, base: Any, scorer: str, collector: VisionCollector) -> None:
        super().__init__(collector)
        if scorer == "cls":
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
        self._attention, self._compared = blocks[-1].attn, blocks[first : last + 1]
        self._layout: dict[str, Any] = {}
        self._grids: list[Grid] = []

    def register(self, hooks: Hooks) -> None:
        """Place all hooks of this tower."""
        hooks.before(self._tower, self._start)
        hooks.before(self._attention, self._catch_layout)
        hooks.after(self._attention.qkv, self._catch_projections)
        for block in self._compared:
            hooks.after(block, self.add_state)
        hooks.after(self._tower, self._finish)

    def _start(self, _tower: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        shapes = (args[1] if len(args) > 1 else given(kwargs, "grid_thw", self._tower)).tolist()
        if any(frames != 1 for frames, _, _ in shapes):
            raise UnsupportedInputError("the vision stage (Nuwa) reduces pictures, not videos")
        merge = self._tower.spatial_merge_size
        self._grids = [(height // merge, width // merge) for _, height, width in shapes]
        self.begin()

    def _catch_layout(self, _attention: nn.Module, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._layout = kwargs

    def _catch_projections(self, _linear: nn.Module, _args: tuple[Any, ...], output: Tensor) -> None:
        self.caught["qkv"] = output.detach().view(len(output), 3, self._attention.num_heads, -1)

    def _finish(self, tower: Any, _args: tuple[Any, ...], output: Any) -> Any:
        features = part(output, "pooler_output")
        output.pooler_output = self.reduced(lambda: self._reduce(tower.merger, features))
        self._layout = {}
        return output

    def _reduce(self, merger: nn.Module, features: Tensor) -> Tensor:
        """(sum of V, d) features of all pictures, in raster order, with the anchors aggregated."""
        scores, similarity = self._scores(), self._similarity(merger, features.dtype)
        if self._windowed:
            cells = self._tower.window_size // self._tower.spatial_merge_size // self._tower.patch_size
            raster = window_order(self._grids, cells).argsort()
            scores, similarity = scores[raster], similarity[raster]
        sizes = [height * width for height, width in self._grids]
        parts = (torch.split(part, sizes) for part in (features, similarity, scores))
        return torch.cat([self.collector.reduce(*part) for part in zip(*parts, self._grids, strict=True)])

    @torch.no_grad()
    def _scores(self) -> Tensor:
        """(sum of V,) attention received in the last block, mean over each merge group, in tower order."""
        query, key, _ = given(self.caught, "qkv", self._attention).unbind(1)
        query, key = self._rotate(query, key, *given(self._layout, "position_embeddings", self._attention))
        sizes = given(self._layout, "cu_seqlens", self._attention).diff().tolist()
        segments = zip(torch.split(query, sizes), torch.split(key, sizes), strict=True)
        received = torch.cat([attention_received(q, k, self._attention.scaling) for q, k in segments])
        return received.view(-1, self._tower.spatial_merge_size**2).mean(dim=-1)

    @torch.no_grad()
    def _similarity(self, merger: nn.Module, dtype: torch.dtype) -> Tensor:
        """(sum of V, d) mean hidden state of the compared blocks through the merger, in tower order."""
        mean = given(self.caught, "states", self._tower) / len(self._compared)
        merged: Tensor = merger(mean.to(dtype))
        return merged


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
            "the vision stage (Nuwa) works on a CLIP tower with select strategy 'default' or a SigLIP tower "
            f"with 'full', not on {kind[0]!r} with {kind[1]!r}"
        )
    return class_tokens


def _scored_layer(selected: Any, layers: int) -> int:
    """The encoder layer whose output is `hidden_states[selected]`."""
    if not isinstance(selected, int):
        raise UnsupportedModelError(
            f"the vision stage (Nuwa) needs one vision feature layer, this model joins {selected}"
        )
    layer = selected - 1 if selected >= 0 else selected + layers
    if not 0 <= layer < layers:
        raise UnsupportedModelError(
            f"no encoder layer makes vision feature layer {selected}: the tower has {layers} layers"
        )
    return layer
