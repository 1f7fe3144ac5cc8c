"""Finds profiles: by name among this package's own, or as a file.

Knows where files are, not what is in them.
"""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path

from profiles.errors import ProfileError
from profiles.profile import Profile, from_section
from profiles.published import expand
from profiles.reader import read
from profiles.resources import folder

_SUFFIXES = (".yaml", ".yml")


def names() -> list[str]:
    """Names of the profiles that come with the package."""
    return list(_own())


def published() -> list[Profile]:
    """The profiles that come with the package."""
    return list(_own().values())


def load(name_or_path: str | Path) -> Profile:
    """A profile by name, or from a YAML file (a path that ends in .yaml or .yml, or has a folder in it).

    Raises ProfileError: no such name (with the nearest ones), an unreadable file, or what is wrong inside it.
    """
    text = str(name_or_path)
    if text in _own():
        return _own()[text]
    path = Path(name_or_path)
    if isinstance(name_or_path, Path) or path.suffix in _SUFFIXES or len(path.parts) > 1:
        return from_section(read(path), path.stem)
    close = difflib.get_close_matches(text, _own(), n=3)
    hint = f"did you mean {', '.join(close)}?" if close else "list them, or give the path of a .yaml file"
    raise ProfileError(text, "", f"no profile has this name; {hint}")


@cache
def _own() -> dict[str, Profile]:
    found = {}
    for path in folder("published"):
        found.update({profile.name: profile for profile in expand(read(path, path.name))})
    for path in folder("presets"):
        found[path.stem] = from_section(read(path, path.name), path.stem)
    return found
