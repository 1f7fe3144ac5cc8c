"""Schedules by name: the published configurations, presets, and files of one's own.

load(name_or_path) -> Profile, names() -> list[str], published() -> list[Profile]; the format of a file is in
`profiles.profile`. dump(schedule, title=...) writes one. model_names(), model(name), model_config(name):
public config numbers of well-known models. Everything wrong with a file or a name is a ProfileError.
"""

from __future__ import annotations

from profiles.errors import ProfileError
from profiles.library import load, names, published
from profiles.models import ModelEntry, model, model_config, model_names
from profiles.processors import ProcessorEntry
from profiles.profile import Profile
from profiles.writer import dump

__all__ = [
    "ModelEntry",
    "ProcessorEntry",
    "Profile",
    "ProfileError",
    "dump",
    "load",
    "model",
    "model_config",
    "model_names",
    "names",
    "published",
]
