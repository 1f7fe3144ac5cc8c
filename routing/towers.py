"""Reads the vision tower of each family out of a config, as numbers; the arithmetic is in vision_cost.py.

Takes plain dicts and fills in what a config.json leaves out with the library's own defaults. Knows no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from routing.vision_cost import Tower

Config = Mapping[str, Any]


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
    return _on_grid(numbers, hidden, hidden * numbers["mlp_ratio"], projector=projector, merger=2)


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
        merger=2,
        window=numbers["window_size"] // cell * numbers["spatial_merge_size"],
        full=tuple(config["vision_config"].get("fullatt_block_indexes", (7, 15, 23, 31))),
    )


def _qwen3(config: Config, _text: int) -> Tower:
    numbers = _numbers(config["vision_config"], _QWEN3)
    hidden = numbers["hidden_size"]
    merger = _merger(hidden, numbers, numbers["out_hidden_size"])
    deepstack = len(config["vision_config"].get("deepstack_visual_indexes", (8, 16, 24)))
    projector = merger * (1 + deepstack)
    return _on_grid(numbers, hidden, numbers["intermediate_size"], projector=projector, merger=2)


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
