"""The one reader of YAML: a small, strict part of it, and typed access to what was read.

Files of at most 64 KiB and one document; no tags, no anchors, no duplicate keys, no merge keys. Whatever
is wrong is a ProfileError that names the file and the key. Knows no profile's meaning.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from profiles.errors import ProfileError

MOST_BYTES = 64 * 1024
MOST_BITS = 63  # of a whole number: larger ones are no counts, and neither floats nor JSON can hold them
_SHOWN = 40  # characters of a wrong value that a message repeats


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader without tags, anchors, merge keys and repeated keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise yaml.constructor.ConstructorError(
                None, None, "anchors and aliases are not read", event.start_mark
            )
        if getattr(event, "tag", None) is not None:
            raise yaml.constructor.ConstructorError(None, None, "tags are not read", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                problem = f"keys must be words, got {_shown(key)}"
            elif key == "<<":
                problem = "merge keys are not read"
            elif key in seen:
                problem = f"the key {_shown(key)} is given twice"
            else:
                seen.add(key)
                continue
            raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: Any) -> int:
        value: int = super().construct_yaml_int(node)
        if value.bit_length() > MOST_BITS:
            raise yaml.constructor.ConstructorError(
                None, None, f"a whole number of more than {MOST_BITS} bits is not read", node.start_mark
            )
        return value


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_yaml_int)
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":merge"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read(path: Path, file: str | None = None) -> YamlSection:
    """The mapping in a YAML file; `file` is the name that messages use."""
    file = str(path) if file is None else file
    try:
        with path.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise ProfileError(file, "", f"cannot be read ({error.strerror or error})") from error
    if len(data) > MOST_BYTES:
        raise ProfileError(file, "", f"is larger than {MOST_BYTES} bytes, which no profile is")
    return parse(data, file)


def parse(data: bytes, file: str) -> YamlSection:
    """The mapping in YAML text."""
    try:
        loaded = _StrictLoader(data.decode()).get_single_data()
    except UnicodeDecodeError as error:
        raise ProfileError(file, "", "is not UTF-8 text") from error
    except RecursionError as error:
        raise ProfileError(file, "", "is nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        said = [part for name in ("context", "problem") if (part := getattr(error, name, None))]
        line = "" if mark is None else f"line {mark.line + 1}"
        raise ProfileError(file, line, ", ".join(said) or "is not valid YAML") from error
    if not isinstance(loaded, dict):
        raise ProfileError(file, "", f"must hold keys and values, got {_shown(loaded)}")
    return YamlSection(file, "", loaded)


@dataclass(frozen=True)
class YamlSection(Mapping[str, Any]):
    """One mapping of a file, with typed access; every complaint names the file and the dotted key."""

    file: str
    path: str
    values_: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.values_[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)

    def error(self, key: str, message: str) -> ProfileError:
        """A complaint about one key of this section ('' for the section itself)."""
        return ProfileError(self.file, ".".join(part for part in (self.path, key) if part), message)

    def only(self, *allowed: str) -> None:
        """Complain about the first key that is not allowed."""
        for key in self:
            if key not in allowed:
                close = difflib.get_close_matches(key, allowed, n=1)
                hint = f"did you mean {close[0]}?" if close else f"allowed are {', '.join(allowed)}"
                raise self.error(key if key.isidentifier() else _shown(key), f"unknown key; {hint}")

    def text(self, key: str, default: str | None = None) -> str:
        """A line of text."""
        value = self._value(key, default)
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise self.error(key, f"must be a line of text, got {_shown(value)}")
        return value

    def choice(self, key: str, allowed: Collection[str], default: str | None = None) -> str:
        """One of a few words."""
        value = self._value(key, default)
        if not isinstance(value, str) or value not in allowed:
            raise self.error(key, f"must be one of {', '.join(allowed)}, got {_shown(value)}")
        return str(value)

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number."""
        return _finite(self, key, self._value(key, default))

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number from 0 up."""
        return _whole(self, key, self._value(key, default))

    def numbers(self, key: str) -> list[float]:
        """A list of finite numbers."""
        return [_finite(self, f"{key}[{index}]", value) for index, value in enumerate(self._list(key))]

    def wholes(self, key: str) -> list[int]:
        """A list of whole numbers."""
        return [_whole(self, f"{key}[{index}]", value) for index, value in enumerate(self._list(key))]

    def section(self, key: str) -> YamlSection:
        """A mapping below this one."""
        value = self._value(key, None)
        if not isinstance(value, dict):
            raise self.error(key, f"must hold keys and values, got {_shown(value)}")
        return YamlSection(self.file, ".".join(part for part in (self.path, key) if part), value)

    def sections(self, key: str) -> list[YamlSection]:
        """A list of mappings."""
        found = []
        for index, value in enumerate(self._list(key)):
            place = f"{key}[{index}]"
            if not isinstance(value, dict):
                raise self.error(place, f"must hold keys and values, got {_shown(value)}")
            found.append(YamlSection(self.file, ".".join(part for part in (self.path, place) if part), value))
        return found

    def _list(self, key: str) -> list[Any]:
        value = self._value(key, None)
        if not isinstance(value, list):
            raise self.error(key, f"must be a list, got {_shown(value)}")
        return value

    def _value(self, key: str, default: object) -> Any:
        value = self.get(key, default)
        if value is None:
            raise self.error(key, "is missing" if key not in self else "is empty")
        return value


def _finite(section: YamlSection, key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise section.error(key, f"must be a finite number, got {_shown(value)}")
    return value


def _whole(section: YamlSection, key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise section.error(key, f"must be a whole number from 0 up, got {_shown(value)}")
    return value


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def folder(name: str) -> list[Path]:
    """The YAML files of one folder of this package, in order of name."""
    return sorted(Path(str(files("profiles") / name)).glob("*.yaml"))
