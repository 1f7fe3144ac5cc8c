"""Where this package's own YAML files are."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def folder(name: str) -> list[Path]:
    """The YAML files of one folder of this package, in order of name."""
    return sorted(Path(str(files("profiles") / name)).glob("*.yaml"))
