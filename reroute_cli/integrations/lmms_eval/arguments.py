"""`--model_args` of lmms-eval as the option groups that they stand for: model, schedule, and how to run.

lmms-eval has split the text at its commas and made numbers of what looks like one. The arguments are the
fields of the groups, by their names. Knows no model and nothing of lmms-eval.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from reroute_cli.console.errors import UsageError
from reroute_cli.console.group import Options, Range, made_of
from reroute_cli.console.options import (
    ModelOptions,
    ScheduleOptions,
)
from reroute_cli.console.output import Sink, clean
from reroute_cli.console.typed import layers_in, read_chat_template
from reroute_cli.run.schedules import ScheduleChoice

NEW_TOKENS = 1024  # where neither task nor user says, as in lmms-eval's own models of this kind
_OPTION = re.compile(r"--([a-z][a-z-]*)")
_BETWEEN = "+"  # of `layers` and of `set` (version:2+recycle:no): commas part arguments, = their names


@dataclass(frozen=True)
class RequestOptions(Options):
    """How requests are answered. max_new_tokens: for tasks that do not say. costs: the file of costs."""

    batch_size: Annotated[int, Range(1, 4096)] = 1
    max_new_tokens: Annotated[int, Range(1, 1 << 20)] = NEW_TOKENS
    costs: str | None = None


GROUPS = (ScheduleOptions, ModelOptions, RequestOptions)
_NAMES = {name: one for group in GROUPS for name, one in group.declared().items() if name != "quiet"}


@dataclass(frozen=True)
class Arguments:
    """What was asked for. max_new_tokens: for tasks that do not say. costs: where to write what it cost."""

    load: ModelOptions
    choice: ScheduleChoice
    batch_size: int
    max_new_tokens: int
    costs: Path | None


def read_arguments(given: Mapping[str, Any]) -> Arguments:
    """The arguments by name; raises UsageError, or ProfileError for a bad profile."""
    named = {name: value for name, value in given.items() if value is not None}  # None was not given
    if "pretrained" in named:
        if "model" in named:
            raise UsageError("model and pretrained are the same argument: give one of them")
        named["model"] = named.pop("pretrained")
    if "cuts" in named and "layers" not in named:
        Sink().talk("note: the model argument 'cuts' goes with the next release: write layers")
        named["layers"] = named.pop("cuts")
    if unknown := sorted(set(named) - set(_NAMES)):
        allowed = ", ".join(["pretrained", *_NAMES])
        shown = clean(unknown[0], one_line=True)
        raise UsageError(f"there is no model argument '{shown}': those of reroute are {allowed}")
    known = {name: _value(name, value) for name, value in named.items()}
    try:
        model, requests = made_of(ModelOptions, known), made_of(RequestOptions, known)
        choice = ScheduleChoice.of(made_of(ScheduleOptions, known))
    except UsageError as error:  # an option of the command line as the argument that stands for it
        raise UsageError(_OPTION.sub(lambda option: option[1].replace("-", "_"), str(error))) from error
    if choice.resizes:
        raise UsageError(
            f"method {choice.method} makes images smaller, which is not done here: ask with reroute eval"
        )
    costs = None if requests.costs is None else Path(requests.costs)
    return Arguments(model, choice, requests.batch_size, requests.max_new_tokens, costs)


def _value(name: str, value: Any) -> Any:
    """A value as its field has it: text, or a number that lmms-eval may have left as text."""
    if name == "layers":
        return layers_in(str(value), name=name, between=_BETWEEN)
    if name == "set":
        return [word.replace(":", "=", 1) for word in str(value).split(_BETWEEN)]
    if name == "chat_template":
        return read_chat_template(str(value))
    one = _NAMES[name]
    if one.limits and isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}", value):
        return int(value)  # lmms-eval's own batch_size is text
    return clean(str(value), one_line=True) if str in one.kinds else value
