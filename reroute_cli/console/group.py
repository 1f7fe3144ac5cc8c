"""A group of options: a dataclass whose fields are the options, checked when one is made.

Knows what a field declares and how Typer reads it; not any option but those that once had another name.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import MISSING, dataclass, fields
from functools import cache, wraps
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from typer.core import TyperCommand
from typer.models import OptionInfo, ParameterInfo

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.output import Sink, check_writable, clean, shortened

WRITTEN = "written"  # of a path: the command writes this file, so that it must be possible
RENAMED = {"--cuts": "--layers", "--pictures": "--images"}


class Range(NamedTuple):
    """The smallest and the largest whole number that an option takes."""

    low: int
    high: int


class Field(NamedTuple):
    """A field of a group. hint: its type. kinds: the types that are possible where it is a union.

    option: the `typer.Option` or `typer.Argument` of its annotation, None where it has none.
    """

    hint: Any
    kinds: tuple[Any, ...]
    option: ParameterInfo | None
    limits: Range | None
    written: bool


@dataclass(frozen=True)
class Options:
    """A group of options, checked when it is made: raises UsageError or Failure with one sentence.

    A field whose annotation holds a `typer.Option` or `typer.Argument` is one on the command line, in the
    panel of its group. Every other field takes the value of the option of its name, where a command has one.
    """

    panel: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        for name, one in type(self).declared().items():
            value = getattr(self, name)
            if value is None:
                continue
            if problem := _problem(one, value):
                raise UsageError(f"{spelled(name)} {problem}")
            if one.written and (problem := check_writable(Path(value))):
                raise Failure(f"{spelled(name)}: {problem}")

    @classmethod
    @cache
    def declared(cls) -> dict[str, Field]:
        """What is declared of each field of the group, by its name."""
        hints, found = get_type_hints(cls, include_extras=True), {}
        for name in (one.name for one in fields(cls)):
            kind, *extras = get_args(hints[name]) if get_origin(hints[name]) is Annotated else [hints[name]]
            found[name] = Field(
                kinds=get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,),
                hint=kind,
                option=next((extra for extra in extras if isinstance(extra, ParameterInfo)), None),
                limits=next((extra for extra in extras if isinstance(extra, Range)), None),
                written=WRITTEN in extras,
            )
        return found

    def given(self, *names: str) -> list[str]:
        """Those of these fields that are not None, as they are typed."""
        return [spelled(name) for name in names if getattr(self, name) is not None]


def spelled(name: str) -> str:
    """A field as it is typed: load_format -> --load-format."""
    return f"--{name.replace('_', '-')}"


def _problem(one: Field, value: Any) -> str | None:
    """What is wrong with the value of a field, as the end of a sentence; None where nothing is."""
    shown = shortened(clean(str(value), one_line=True))
    choices = [choice for kind in one.kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    if choices and value not in choices:
        return f"'{shown}' is none of {', '.join(choices)}: choose one"
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if one.limits and not (number and value == int(value) and one.limits.low <= value <= one.limits.high):
        return f"{shown} is no whole number from {one.limits.low} to {one.limits.high}: give one of these"
    if float in one.kinds and not number:
        return f"{shown} is no number: give one, such as 0.5"
    return None


def expanded(command: Callable[..., None], helps: Mapping[str, str] | None = None) -> Callable[..., None]:
    """The command as Typer reads it: in place of each group, in order, an option for each of its fields.

    A field that several groups have is one option, which the last of them declares; each gets its value. What
    an option's callback reads is typed as text. helps: by field, help in place of what is declared, for what
    only a floor above the options knows.
    """
    groups = {name: group for name, group in get_type_hints(command).items() if name != "return"}
    parameters: dict[str, inspect.Parameter] = {}
    for group in groups.values():
        for one in fields(group):
            declared = group.declared()[one.name]
            if declared.option is None:
                continue
            option = copy(declared.option)
            option.help = (helps or {}).get(one.name, option.help)
            if isinstance(option, OptionInfo):
                option.rich_help_panel = option.rich_help_panel or group.panel
            default = inspect.Parameter.empty if one.default is MISSING else one.default
            parameters.pop(one.name, None)
            parameters[one.name] = inspect.Parameter(
                one.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=Annotated[str | None if option.callback else declared.hint, option],
            )

    @wraps(command)
    def run(**typed: Any) -> None:
        command(**{name: made_of(group, typed) for name, group in groups.items()})

    run.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
    run.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    return run


def given(values: Mapping[str, Any], *groups: type[Options]) -> list[Any]:
    """Each of these groups, made of what Python code gave by name; None and what is left out are defaults.

    What is typed as text may be given as what it stands for: several words as a list, those of the form
    NAME=VALUE as a dict, a path as a string.
    Raises TypeError for a name that no group has, and what the groups raise.
    """
    if unknown := values.keys() - {name for group in groups for name in group.declared()}:
        known = ", ".join(dict.fromkeys(name for group in groups for name in group.declared()))
        raise TypeError(f"there is no keyword '{min(unknown)}': choose from {known}")
    made = []
    for group in groups:
        named = {name: one for name, one in group.declared().items() if values.get(name) is not None}
        made.append(group(**{name: _as_typed(one, values[name]) for name, one in named.items()}))
    return made


def _as_typed(one: Field, value: Any) -> Any:
    """The value of a field as the command line would have it."""
    if any(get_origin(kind) is list for kind in one.kinds):
        if isinstance(value, Mapping):
            return [f"{name}={part}" for name, part in value.items()]
        return [value] if isinstance(value, str) else list(value)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    reader = getattr(one.option, "callback", None)
    if reader is not None or str in one.kinds:
        value = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    if reader is not None:
        return reader(value)
    return Path(value) if Path in one.kinds else value


def made_of(group: type[Options], values: Mapping[str, Any]) -> Any:
    """The group with those of these values that are its fields; the others are left alone."""
    return group(**{name: values[name] for name in group.declared() if name in values})


class OldSpellings(TyperCommand):
    """A command that still takes its options by their old names, and a question behind -q, and says so.

    -q is followed by the question where a command has -Q and none is given otherwise: a folder or images
    without a question make no sense.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; raises typer.TyperException for what makes no sense."""
        known = {name for parameter in self.params for name in parameter.opts}
        end = args.index("--") if "--" in args else len(args)
        words, notes = list(args), []
        for at, word in enumerate(args[:end]):
            old, sign, value = word.partition("=")
            new = RENAMED.get(old)
            if new in known and old not in known:
                words[at] = f"{new}{sign}{value}"
                notes.append(f"note: '{old}' goes with the next release: write {new}")
        if "-Q" in known and not {"question", "manifest"} & set(self._given(ctx, words)):
            for at, word in enumerate(words[:end]):
                if word == "-q" and at + 1 < end and not words[at + 1].startswith("-"):
                    words[at] = "-Q"
                    notes.append(
                        "note: '-q QUESTION' goes with the next release, where -q is quiet alone: "
                        "write -Q or --question"
                    )
        rest = super().parse_args(ctx, words)
        for note in dict.fromkeys(notes):
            Sink(quiet=ctx.params.get("quiet", False)).talk(note)
        return rest

    def _given(self, ctx: Any, words: list[str]) -> dict[str, Any]:
        """What is there of the arguments, by the names of the parameters."""
        return dict(self.make_parser(ctx).parse_args(args=list(words))[0])
