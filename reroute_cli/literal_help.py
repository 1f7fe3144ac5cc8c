"""Help that is shown as it was written: no square bracket, colon or backslash in it means anything.

Typer hands help texts to Rich as markup, which takes `[:ACTION]` for a tag and drops it. A text that holds a
terminal's escape sequence it hands on as it stands: each paragraph begins with the one that changes nothing.
Does not know what any command says.
"""

from __future__ import annotations

from copy import copy
from typing import Any, TypeVar

_RESET = "\x1b[0m"  # "no colour", the colour there is; Typer's echo drops it where no terminal reads
_Command = TypeVar("_Command", bound=Any)


def literal(command: _Command) -> _Command:
    """A copy of a Typer command or group whose help, and that of all below it, is shown as it was written."""
    shown = copy(command)
    for name in ("help", "short_help", "epilog"):
        setattr(shown, name, _marked(getattr(command, name)))
    shown.params = [_parameter(each) for each in command.params]
    if hasattr(command, "commands"):
        shown.commands = {name: literal(each) for name, each in command.commands.items()}
    return shown


def _parameter(parameter: Any) -> Any:
    shown = copy(parameter)
    shown.help = _marked(parameter.help)
    return shown


def _marked(text: str | None) -> str | None:
    return None if text is None else "\n\n".join(_RESET + paragraph for paragraph in text.split("\n\n"))
