"""FLOPs of a vision tower and its projector, by arithmetic from a config.

A picture is a grid (frames, rows, columns) of patches. Where nothing in the model mixes pictures, each
grid (for
tiled models: each tile) is its own attention; 2 FLOPs per multiply-add, softmax and norms not counted, as
torch's FLOP counter does. Knows no decoder and no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Grid = tuple[int, int, int]  # frames, rows, columns, in patches
Config = Mapping[str, Any]


@dataclass(frozen=True)
class Tower:
    """A vision transformer followed by linear maps into the decoder's width.

    patch: numbers in one patch (channels * frames * height * width). extra: tokens besides the patches (CLS).
    matrices: linear maps in an MLP, 3 where it is gated. window: side of an attention window in patches,
    used by every block but the `full` ones; None means full attention. merge: patches that become one
    visual token.
    projector: (in, out) of each linear map on merged tokens. joint: all pictures of a prompt share one
    attention.
    native: the grid of one picture or tile where its size is fixed.
    """

    layers: int
    hidden: int
    intermediate: int
    patch: int
    merge: int
    projector: tuple[tuple[int, int], ...]
    extra: int = 0
    matrices: int = 2
    window: int | None = None
    full: tuple[int, ...] = ()
    joint: bool = False
    native: Grid | None = None

    def flops(self, grids: Sequence[Grid]) -> int:
        """FLOPs for these pictures, projector included."""
        patches = sum(frames * rows * columns for frames, rows, columns in grids)
        rows = patches + self.extra * len(grids)
        linear = rows * self.hidden * (4 * self.hidden + self.matrices * self.intermediate)
        embed = self._embedded(grids) * self.patch * self.hidden
        project = patches // self.merge * sum(wide * narrow for wide, narrow in self.projector)
        return 2 * (embed + self.layers * linear + project) + self._attention(grids)

    def _embedded(self, grids: Sequence[Grid]) -> int:
        """Patches that are embedded: pictures that share one attention are first padded to one size."""
        if not self.joint:
            return sum(frames * rows * columns for frames, rows, columns in grids)
        return len(grids) * max(grid[1] for grid in grids) * max(grid[2] for grid in grids)

    def visual_tokens(self, grids: Sequence[Grid]) -> int:
        """Visual tokens of these pictures before any newline or row token a family may add."""
        return sum(frames * rows * columns for frames, rows, columns in grids) // self.merge

    def _attention(self, grids: Sequence[Grid]) -> int:
        lengths = [rows * columns + self.extra for frames, rows, columns in grids for _ in range(frames)]
        dense = sum(lengths) ** 2 if self.joint else sum(length**2 for length in lengths)
        if self.window is None:
            return self.layers * 4 * self.hidden * dense
        windowed = sum(_windowed(grid, self.window) for grid in grids)
        return 4 * self.hidden * (len(self.full) * dense + (self.layers - len(self.full)) * windowed)


def _windowed(grid: Grid, side: int) -> int:
    """Sum of squared token counts over the windows of a grid; windows at the border are smaller."""
    frames, rows, columns = grid

    def squares(length: int) -> int:
        return (length // side) * side**2 + (length % side) ** 2

    return frames * squares(rows) * squares(columns)


def _numbers(config: Config, defaults: Mapping[str, int]) -> dict[str, int]:
    return {name: int(config.get(name, default)) for name, default in defaults.items()}


def _side(value: Any, default: int) -> int:
    """An image or patch size given as a number or as a pair."""
    if value is None:
        return default
    return int(value[0]) if isinstance(value, list | tuple) else int(value)


_VIT = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_channels": 3}
_LARGE_VIT = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_channels": 3}
_IDEFICS_VIT = {"hidden_size": 1152, "intermediate_size": 3072, "num_hidden_layers": 12, "num_channels": 3}
_SIZES = {  # model_type of the tower -> default image size and patch size
    "clip_vision_model": (224, 32),
    "siglip_vision_model": (224, 16),
    "internvl_vision": (448, 14),
    "idefics3": (224, 32),
    "pixtral": (1024, 16),
}


def _fixed(tower: Config, kind: str, numbers: Mapping[str, int], **more: Any) -> Tower:
    """A plain ViT on pictures of one size."""
    size, patch = _SIZES[kind]
    patch = _side(tower.get("patch_size"), patch)
    side = _side(tower["image_size"], size) // patch if "image_size" in tower else size // patch
    return Tower(
        layers=numbers["num_hidden_layers"],
        hidden=numbers["hidden_size"],
        intermediate=numbers["intermediate_size"],
        patch=numbers["num_channels"] * patch**2,
        native=(1, side, side),
        **more,
    )


def _feature_layers(config: Config) -> int:
    chosen = config.get("vision_feature_layer", -1)
    return 1 if isinstance(chosen, int) else len(chosen)


def _llava(config: Config, text: int) -> Tower:
    tower = config["vision_config"]
    kind = str(tower.get("model_type", "clip_vision_model"))
    if kind not in ("clip_vision_model", "siglip_vision_model"):
        raise NotImplementedError(f"a {kind} tower is not modelled")
    if kind == "siglip_vision_model" and tower.get("vision_use_head", True):
        raise NotImplementedError("the attention-pooling head of this tower is not modelled")
    numbers = _numbers(tower, _VIT)
    wide = numbers["hidden_size"] * _feature_layers(config)
    extra = int(kind == "clip_vision_model")
    if extra and config.get("vision_feature_select_strategy", "default") == "full":
        raise NotImplementedError("projecting the CLS token is not modelled")
    return _fixed(tower, kind, numbers, merge=1, projector=((wide, text), (text, text)), extra=extra)


def _paligemma(config: Config, text: int) -> Tower:
    tower = config["vision_config"]
    numbers = _numbers(tower, _VIT)
    if tower.get("vision_use_head", True):
        raise NotImplementedError("the attention-pooling head of this tower is not modelled")
    return _fixed(tower, "siglip_vision_model", numbers, merge=1, projector=((numbers["hidden_size"], text),))


def _internvl(config: Config, text: int) -> Tower:
    tower = config["vision_config"]
    numbers = _numbers(tower, _LARGE_VIT)
    merge = round(1 / config.get("downsample_ratio", 0.5)) ** 2
    wide = numbers["hidden_size"] * merge
    return _fixed(
        tower, "internvl_vision", numbers, merge=merge, projector=((wide, text), (text, text)), extra=1
    )


def _idefics3(config: Config, text: int) -> Tower:
    tower = {key: value for key, value in config["vision_config"].items() if not isinstance(value, Mapping)}
    numbers = _numbers(tower, _IDEFICS_VIT)
    merge = int(config.get("scale_factor", 2)) ** 2
    return _fixed(
        tower, "idefics3", numbers, merge=merge, projector=((numbers["hidden_size"] * merge, text),)
    )


def _mistral3(config: Config, text: int) -> Tower:
    tower = config["vision_config"]
    numbers = _numbers(tower, _LARGE_VIT)
    hidden, merge = numbers["hidden_size"], int(config.get("spatial_merge_size", 2)) ** 2
    projector = ((hidden * merge, hidden), (hidden * _feature_layers(config), text), (text, text))
    return _fixed(tower, "pixtral", numbers, merge=merge, projector=projector, matrices=3, joint=True)


_GRID = {"in_channels": 3, "patch_size": 14, "temporal_patch_size": 2, "spatial_merge_size": 2}
_QWEN2 = {"depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "hidden_size": 3584, **_GRID}
_QWEN2_5 = {
    "depth": 32,
    "hidden_size": 3584,
    "intermediate_size": 3420,
    "out_hidden_size": 3584,
    "window_size": 112,
    **_GRID,
}
_QWEN3 = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "out_hidden_size": 3584, **_GRID}
_QWEN3["patch_size"] = 16
_GLM4V = {"depth": 24, "hidden_size": 1536, "intermediate_size": 13696, "out_hidden_size": 4096, **_GRID}


def _on_grid(numbers: Mapping[str, int], hidden: int, intermediate: int, **more: Any) -> Tower:
    """A ViT on pictures of any size, merging squares of patches."""
    return Tower(
        layers=numbers["depth"],
        hidden=hidden,
        intermediate=intermediate,
        patch=numbers["in_channels"] * numbers["temporal_patch_size"] * numbers["patch_size"] ** 2,
        merge=numbers["spatial_merge_size"] ** 2,
        **more,
    )


def _merger(hidden: int, numbers: Mapping[str, int], out: int) -> tuple[tuple[int, int], ...]:
    wide = hidden * numbers["spatial_merge_size"] ** 2
    return ((wide, wide), (wide, out))


def _qwen2(config: Config, _text: int) -> Tower:
    numbers = _numbers(config["vision_config"], _QWEN2)
    hidden = numbers["embed_dim"]
    projector = _merger(hidden, numbers, numbers["hidden_size"])
    return _on_grid(numbers, hidden, hidden * numbers["mlp_ratio"], projector=projector)


def _qwen2_5(config: Config, _text: int) -> Tower:
    numbers = _numbers(config["vision_config"], _QWEN2_5)
    hidden = numbers["hidden_size"]
    cell = numbers["patch_size"] * numbers["spatial_merge_size"]
    return _on_grid(
        numbers,
        hidden,
        numbers["intermediate_size"],
        matrices=3,
        projector=_merger(hidden, numbers, numbers["out_hidden_size"]),
        window=numbers["window_size"] // cell * numbers["spatial_merge_size"],
        full=tuple(config["vision_config"].get("fullatt_block_indexes", (7, 15, 23, 31))),
    )


def _qwen3(config: Config, _text: int) -> Tower:
    numbers = _numbers(config["vision_config"], _QWEN3)
    hidden = numbers["hidden_size"]
    merger = _merger(hidden, numbers, numbers["out_hidden_size"])
    deepstack = len(config["vision_config"].get("deepstack_visual_indexes", (8, 16, 24)))
    return _on_grid(numbers, hidden, numbers["intermediate_size"], projector=merger * (1 + deepstack))


def _glm4v(config: Config, _text: int) -> Tower:
    numbers = _numbers(config["vision_config"], _GLM4V)
    hidden, out, wide = numbers["hidden_size"], numbers["out_hidden_size"], numbers["intermediate_size"]
    downsample = (hidden * numbers["spatial_merge_size"] ** 2, out)
    projector = (downsample, (out, out), (out, wide), (out, wide), (wide, out))
    return _on_grid(numbers, hidden, out, matrices=3, projector=projector)


TOWERS: dict[str, Callable[[Config, int], Tower]] = {
    "llava": _llava,
    "llava_next": _llava,
    "llava_onevision": _llava,
    "vipllava": _llava,
    "paligemma": _paligemma,
    "internvl": _internvl,
    "idefics3": _idefics3,
    "smolvlm": _idefics3,
    "mistral3": _mistral3,
    "qwen2_vl": _qwen2,
    "qwen2_5_vl": _qwen2_5,
    "qwen3_vl": _qwen3,
    "glm4v": _glm4v,
    "glm46v": _glm4v,
}
