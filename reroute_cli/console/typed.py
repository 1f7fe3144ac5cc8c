"""What is typed as text, as what it stands for: a template's file, decision layers, settings of a method.

Each raises UsageError with one sentence. Knows the registry of methods; no option.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from reroute_cli.console.errors import UsageError
from routing.methods import METHODS

TYPED_OTHERWISE = {"cuts": "--layers", "seed": "--seed"}  # options of methods that are not typed as settings
Setting = bool | int | float | str
_WORDS = {"yes": True, "true": True, "no": False, "false": False}
_LONGEST_TEMPLATE = 1 << 18  # bytes; the longest that are published have some 20,000


def read_chat_template(path: str | None) -> str | None:
    """The text of a chat template's file, None where none is named; raises UsageError with one sentence."""
    if path is None:
        return None
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise UsageError(f"the chat template '{path}' is not an ordinary file: name a Jinja text file")
        with Path(path).open("rb") as file:
            data = file.read(_LONGEST_TEMPLATE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"the chat template '{path}' can't be read ({reason}): check the path") from error
    if len(data) > _LONGEST_TEMPLATE:
        raise UsageError(
            f"the chat template '{path}' has over {_LONGEST_TEMPLATE} bytes: name a Jinja text file"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"the chat template '{path}' is not UTF-8 text: name a Jinja text file") from error
    if not text.strip():
        raise UsageError(f"the chat template '{path}' is empty: write a Jinja template into it")
    return text


def read_layers(text: str | None) -> tuple[int, ...] | None:
    """'3,5,8' -> (3, 5, 8); None where nothing was typed; raises UsageError like `layers_in`."""
    return None if text is None else layers_in(text, name="--layers", between=",")


def layers_in(text: str, *, name: str, between: str) -> tuple[int, ...]:
    """The decoder layers of a list; raises UsageError for what is no list of rising numbers.

    name: what the list is called where it stands. Whether the model has these layers, the solver says.
    """
    words = [word.strip() for word in text.split(between)]
    layers = tuple(int(word) for word in words if word.isascii() and word.isdigit() and len(word) <= 6)
    if len(layers) < len(words) or any(later <= earlier for earlier, later in pairwise(layers)):
        form = between.join(("3", "5", "8"))
        raise UsageError(f"{name} '{text}' is no list of decoder layers: give rising numbers, like {form}")
    return layers


def settings_in(words: Iterable[str], method: str) -> dict[str, Setting]:
    """['version=2', 'recycle=no'] -> {"version": 2, "recycle": False}, as the method's solver takes them.

    Raises UsageError for what is no setting of this method; what a setting may be, the solver says.
    """
    known = [name for name in METHODS[method].options if name not in TYPED_OTHERWISE]
    found: dict[str, Setting] = {}
    for word in words:
        name, _, text = (part.strip() for part in word.partition("="))
        if not name or not text:
            raise UsageError(f"'{word}' is no setting: give NAME=VALUE, like version=2")
        if name not in known:
            raise UsageError(f"{method} has no setting '{name}': it has {', '.join(known) or 'none'}")
        if name in found:
            raise UsageError(f"{method} has the setting '{name}' twice: give it once")
        found[name] = _WORDS.get(text.lower(), _number(text))
    return found


def _number(text: str) -> int | float | str:
    """A number where it reads as one, otherwise the word itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
