"""A model's shape from its config alone, for arithmetic: no weights, no torch.

Knows `pocket`, local folders, the well-known models whose numbers `profiles` keeps, and hub ids (of which
only config.json is fetched).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reroute_cli.errors import Failure, UsageError
from reroute_cli.schedules import Target
from reroute_cli.sources import POCKET, read_config
from routing.model_shape import ModelShape

Grid = tuple[int, int, int]  # frames, rows, columns of patches

MOST_LAYERS = 1000  # costs are worked out layer by layer
ELEMENT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_ONE_SIZE = ("llava", "vipllava", "paligemma")  # families whose every picture is one grid


@dataclass(frozen=True)
class Shaped:
    """A model and one picture, as arithmetic sees them.

    visual: visual tokens of the picture; None where they depend on a picture nobody named. grids: its patch
    grids, None where unknown. dtype: of the weights and the KV cache. picture: which picture that is.
    """

    name: str
    shape: ModelShape
    vision_tower: str
    dtype: str
    visual: int | None
    grids: tuple[Grid, ...] | None
    picture: str

    def with_visual(self, visual: int | None) -> Shaped:
        """The same for a picture of this many visual tokens; raises UsageError when none is known."""
        if visual is None or visual == self.visual:
            if self.visual is None:
                raise UsageError(
                    f"how many visual tokens a picture has depends on its size with '{self.name}': "
                    "say it with --visual-tokens"
                )
            return self
        return replace(self, visual=visual, grids=None, picture=f"any of {visual} visual tokens")

    @property
    def target(self) -> Target:
        """What a schedule must fit."""
        return Target(self.shape.layers, self.shape.first_layer, self.visual or 0, self.vision_tower)


def read_shape(name: str) -> Shaped:
    """The shape of the model called `name`; raises Failure, or UnsupportedModelError from the arithmetic."""
    import profiles

    if name != POCKET and not Path(name).is_dir() and (entry := _well_known(name)):
        shaped = _shaped(entry.name, entry.config)
        return replace(shaped, visual=entry.visual_tokens, grids=entry.grids, picture=entry.picture)
    try:
        return _shaped(name, read_config(name))
    except profiles.ProfileError as error:
        raise UsageError(str(error)) from error


def _well_known(name: str) -> Any:
    import profiles

    try:
        return profiles.model(name)
    except profiles.ProfileError:
        return None


def _shaped(name: str, config: Mapping[str, Any]) -> Shaped:
    try:
        shape = ModelShape.from_config(config)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise Failure(f"the config of '{name}' makes no sense ({error}): fetch the model anew") from error
    if shape.layers > MOST_LAYERS:
        raise Failure(f"the config of '{name}' has {shape.layers} layers, more than {MOST_LAYERS}: mend it")
    tower = config.get("vision_config") or {}
    native = shape.tower.native if shape.tower is not None and shape.family in _ONE_SIZE else None
    return Shaped(
        name=name,
        shape=shape,
        vision_tower=str(tower.get("model_type", "")) if isinstance(tower, Mapping) else "",
        dtype=_dtype(config),
        visual=shape.tower.visual_tokens([native]) if shape.tower is not None and native else None,
        grids=(native,) if native else None,
        picture="one of any size" if native else "",
    )


def _dtype(config: Mapping[str, Any]) -> str:
    """The dtype a config names, bfloat16 where it names none that is known."""
    named = str(config.get("dtype") or config.get("torch_dtype") or "")
    return named if named in ELEMENT_BYTES else "bfloat16"
