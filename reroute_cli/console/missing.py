"""What a framework no longer has: one sentence that names it, instead of a traceback.

An AttributeError or ImportError says so by itself where our own line asked for the name; where nothing would
be raised, and a number would be silently wrong, the reader of that name raises `lacks`. Knows the frameworks
by the names of their modules, and imports none. tests/cli/console/test_host_names.py lists what is relied on.
"""

from __future__ import annotations

import importlib.metadata
import re
import traceback
from functools import cache
from types import TracebackType
from typing import Any

from routing.host import version, what_is_proven

PACKAGES = {  # module -> the package that brings it
    "PIL": "pillow",
    "huggingface_hub": "huggingface-hub",
    "pynvml": "nvidia-ml-py",
    "rich": "rich",
    "safetensors": "safetensors",
    "tokenizers": "tokenizers",
    "torch": "torch",
    "transformers": "transformers",
    "typer": "typer",
}
_OURS = ("reroute_cli", "routing", "profiles")
_LOOKUPS = ("__getattr__", "__getattribute__")  # through which a class of theirs says: no such name
_NO_IMPORT = re.compile(r"cannot import name '(\w+)' from '([\w.]+)'")


def lacks(module: str, name: str, where: str) -> str:
    """The sentence that a framework has no `name` in `where`. module: as it is imported, 'torch'."""
    release = f"{PACKAGES[module]} {version(PACKAGES[module])}"
    return f"{release} has no '{name}' in {where}, which reroute relies on; {what_is_proven()}"


def missing_name(error: BaseException) -> str | None:
    """The same for an exception that says it; None for every other one, and where none of ours asked."""
    if isinstance(error, ImportError):  # a package that is not there at all is another matter
        if found := _NO_IMPORT.match(str(error)):
            name, where = found.groups()
        else:
            where, _, name = (error.name or "").rpartition(".")
        owner = where.partition(".")[0]
        return lacks(owner, name, where) if owner in PACKAGES else None
    if not isinstance(error, AttributeError) or not error.name or not _asked_by_us(error.__traceback__):
        return None
    owner, where = _described(error.obj)
    return lacks(owner, error.name, where) if owner in PACKAGES else None


def _asked_by_us(trace: TracebackType | None) -> bool:
    """Whether one of our own lines looked the name up, and not a framework that fails within itself."""
    modules = [
        str(frame.f_globals.get("__name__"))
        for frame, _ in traceback.walk_tb(trace)
        if frame.f_code.co_name not in _LOOKUPS
    ]
    return bool(modules) and modules[-1].partition(".")[0] in _OURS


def _described(thing: Any) -> tuple[str, str]:
    """The outermost module that a module, a class or an instance belongs to, and what it is called."""
    name = getattr(thing, "__name__", None)
    if isinstance(thing, type):
        return thing.__module__.partition(".")[0], str(name)
    if type(thing).__name__ in ("module", "_LazyModule") and name:
        return str(name).partition(".")[0], str(name)
    return type(thing).__module__.partition(".")[0], type(thing).__name__


@cache
def installed_version(package: str) -> str:
    """The version of a package as its installer recorded it, without importing it; asked for once."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
