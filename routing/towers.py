"""Vision towers as numbers: their FLOPs, those of what is asked of them, and what a config says of one.

2 FLOPs per multiply-add; softmax and norms are not counted, as torch's FLOP counter does not. Which numbers a
family's config holds is said in the family's file. Knows no decoder and no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from routing.grids import PatchGrid

Config = Mapping[str, Any]
SHALLOW_LAYER = 8 / 24  # of the depth: HiPrune's "layer 9 of 24" of CLIP-L, counted from 0


class Need(StrEnum):
    """What a selection has to see beside the features; all but TEXT comes out of the vision tower.

    The tower's layer that is meant, where not said otherwise, is the one whose output becomes the features.
    """

    ATTENTION = "attention"  # from the CLS token; in towers without one the same as RECEIVED
    RECEIVED = "received"  # attention from all tokens
    SHALLOW = "shallow"  # attention from all tokens, in the layer at `SHALLOW_LAYER` of the depth
    KEYS = "keys"  # key projections
    STATES = "states"  # hidden states
    TEXT = "text"  # the prompt's text behind its last visual token, as it enters the decoder


@dataclass(frozen=True)
class Tower:
    """A vision transformer followed by linear maps into the decoder's width.

    patch: numbers in one patch (channels * frames * height * width). extra: tokens besides the patches (CLS).
    matrices: linear maps in an MLP, 3 where it is gated. window: side of an attention window in patches,
    used by every block but the `full` ones; None means full attention.
    merge: patches that become one visual token. projector: (in, out) of each linear map on merged tokens.
    merger: how many of these maps a tower applies itself, so that its features are in the decoder's space.
    joint: all pictures of a prompt share one attention. native: the grid of one picture where it is fixed.
    heads: of an attention. repacked: images are tiles of which visual tokens are made as the image's size
    says, so that patch grids don't tell how many there are to choose among.
    """

    layers: int
    hidden: int
    intermediate: int
    patch: int
    merge: int
    projector: tuple[tuple[int, int], ...]
    merger: int = 0
    extra: int = 0
    heads: int = 16
    matrices: int = 2
    window: int | None = None
    full: tuple[int, ...] = ()
    joint: bool = False
    native: PatchGrid | None = None
    repacked: bool = False

    def flops(self, grids: Sequence[PatchGrid]) -> int:
        """FLOPs for these pictures, projector included."""
        patches = sum(map(_patches, grids))
        rows = patches + self.extra * len(grids)
        linear = rows * self.hidden * (4 * self.hidden + self.matrices * self.intermediate)
        embedded = patches
        if self.joint:  # images that share one attention are first padded to one size
            embedded = len(grids) * max(grid[1] for grid in grids) * max(grid[2] for grid in grids)
        embed = embedded * self.patch * self.hidden
        project = patches // self.merge * _weights(self.projector)
        blocks = sum(self._squares(grids, index) for index in range(self.layers))
        return 2 * (embed + self.layers * linear + project) + 4 * self.hidden * blocks

    @property
    def width(self) -> int:
        """Numbers of a visual token where it leaves the tower."""
        return self.projector[self.merger - 1][1] if self.merger else self.projector[0][0]

    @property
    def states(self) -> int:
        """Numbers of the hidden state of a visual token, as `Need.STATES` means it."""
        return self.width if self.merger else self.hidden

    def asked_flops(self, grid: PatchGrid, needs: Collection[Need]) -> int:
        """FLOPs of what a selection asks of the tower about one picture, beside the tower's own work.

        One row of attention, the whole attention of a block, or states that go through the merger.
        """
        row = (_patches(grid) + self.extra) * (Need.ATTENTION in needs)
        last = self._squares([grid], self.layers - 1) * (Need.RECEIVED in needs)
        shallow = self._squares([grid], self.shallow) * (Need.SHALLOW in needs)
        merged = _patches(grid) // self.merge * _weights(self.projector[: self.merger])
        return 2 * ((row + last + shallow) * self.hidden + merged * (Need.STATES in needs))

    @property
    def shallow(self) -> int:
        """The block that `Need.SHALLOW` means."""
        return min(round(SHALLOW_LAYER * self.layers), self.layers - 1)

    def visual_tokens(self, grids: Sequence[PatchGrid]) -> int:
        """Visual tokens of these pictures before any newline or row token a family may add."""
        return sum(map(_patches, grids)) // self.merge

    def _squares(self, grids: Sequence[PatchGrid], block: int) -> int:
        """Sum of squared lengths over the attentions of one block; windows at the border are smaller."""
        if (side := self.window) is not None and block not in self.full:

            def squares(length: int) -> int:
                return (length // side) * side**2 + (length % side) ** 2

            return sum(frames * squares(rows) * squares(columns) for frames, rows, columns in grids)
        lengths = [rows * columns + self.extra for frames, rows, columns in grids for _ in range(frames)]
        return sum(lengths) ** 2 if self.joint else sum(length**2 for length in lengths)


def _patches(grid: PatchGrid) -> int:
    frames, rows, columns = grid
    return frames * rows * columns


def _weights(maps: Sequence[tuple[int, int]]) -> int:
    return sum(wide * narrow for wide, narrow in maps)


def fixed_tower(numbers: Mapping[str, int], side: int, patch: int, **more: Any) -> Tower:
    """A plain ViT on images of one size.

    numbers: hidden_size, intermediate_size, num_hidden_layers, num_attention_heads and num_channels.
    side, patch: of the image and of a patch, in pixels. more: what else `Tower` takes.
    """
    return Tower(
        layers=numbers["num_hidden_layers"],
        hidden=numbers["hidden_size"],
        intermediate=numbers["intermediate_size"],
        patch=numbers["num_channels"] * patch**2,
        heads=numbers["num_attention_heads"],
        native=(1, side // patch, side // patch),
        **more,
    )


def grid_tower(numbers: Mapping[str, int], hidden: int, intermediate: int, **more: Any) -> Tower:
    """A ViT on images of any size, which merges squares of patches.

    numbers: depth, num_heads, in_channels, patch_size, temporal_patch_size and spatial_merge_size. more: as
    above.
    """
    return Tower(
        layers=numbers["depth"],
        hidden=hidden,
        intermediate=intermediate,
        heads=numbers["num_heads"],
        patch=numbers["in_channels"] * numbers["temporal_patch_size"] * numbers["patch_size"] ** 2,
        merge=numbers["spatial_merge_size"] ** 2,
        **more,
    )


def merger(hidden: int, numbers: Mapping[str, int], out: int) -> tuple[tuple[int, int], ...]:
    """The two linear maps that make one visual token of a square of patches."""
    wide = hidden * numbers["spatial_merge_size"] ** 2
    return ((wide, wide), (wide, out))


def given_or(config: Config, defaults: Mapping[str, int]) -> dict[str, int]:
    """Whole numbers of a config, the library's own defaults for those that it leaves out."""
    return {name: int(config.get(name, default)) for name, default in defaults.items()}


def feature_layers(config: Config) -> int:
    """How many layers of the tower are joined for the projector."""
    chosen = config.get("vision_feature_layer", -1)
    return 1 if isinstance(chosen, int) else len(chosen)
