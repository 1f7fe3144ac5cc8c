"""Public config numbers of well-known models, so that their cost can be told without a download.

Data only (models/*.yaml), in the shape of the hub's config.json. Knows no weights.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from profiles.errors import ProfileError
from profiles.processors import ProcessorEntry, processor
from profiles.reader import folder, read

_KEYS = ("hub", "source", "processor", "picture", "visual_tokens", "tiles", "grid", "config")
Grid = tuple[int, int, int]


@dataclass(frozen=True)
class ModelEntry:
    """A well-known model.

    hub: its id there. source: where the numbers are from. processor: how it reads pictures and text; None
    where its numbers are not kept. picture: the picture `visual_tokens` and `grids` (frames, rows, columns of
    patches) are for; grids: () where the tower's cost is not modelled by them. config: as in config.json; a
    copy, free to change.
    """

    name: str
    hub: str
    source: str
    processor: ProcessorEntry | None
    picture: str
    visual_tokens: int
    grids: tuple[Grid, ...]
    config: Mapping[str, Any]


def model_names() -> list[str]:
    """Names of the well-known models."""
    return list(_entries())


def model(name: str) -> ModelEntry:
    """A well-known model by its name or its hub id, in any case. Raises ProfileError for any other."""
    for entry in _entries().values():
        if name.lower() in (entry.name, entry.hub.lower()):
            return ModelEntry(**{**vars(entry), "config": copy.deepcopy(entry.config)})
    close = difflib.get_close_matches(name.lower(), _entries(), n=2)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(_entries())}"
    raise ProfileError(name, "", f"no numbers of this model are kept here; {hint}")


def model_config(name: str) -> dict[str, Any]:
    """The config of a well-known model, in the shape of config.json. Raises ProfileError."""
    return dict(model(name).config)


@cache
def _entries() -> dict[str, ModelEntry]:
    found = {}
    for path in folder("models"):
        models = read(path, path.name)
        for name in models:
            section = models.section(name)
            section.only(*_KEYS)
            grid = section.wholes("grid") if "grid" in section else None
            found[name] = ModelEntry(
                name=name,
                hub=section.text("hub"),
                source=section.text("source"),
                processor=processor(section.text("processor")) if "processor" in section else None,
                picture=section.text("picture"),
                visual_tokens=section.whole("visual_tokens"),
                grids=() if grid is None else ((grid[0], grid[1], grid[2]),) * section.whole("tiles", 1),
                config=dict(section.section("config")),
            )
    return dict(sorted(found.items()))
