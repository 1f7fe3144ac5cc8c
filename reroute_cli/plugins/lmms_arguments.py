"""`--model_args` of lmms-eval as the options that they stand for: model, schedule, and how to run.

lmms-eval has split the text at its commas and made numbers of what looks like one. Knows no model and nothing
of lmms-eval.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from reroute_cli.console.errors import UsageError
from reroute_cli.console.output import clean
from reroute_cli.models import LoadOptions
from reroute_cli.options import (
    ActionName,
    AttnName,
    DtypeName,
    GenerationName,
    LoadFormat,
    read_chat_template,
)
from reroute_cli.schedules import ScheduleChoice, read_cuts

NEW_TOKENS = 1024  # where neither task nor user says, as in lmms-eval's own models of this kind
_MOST_NEW = 1 << 20
_MOST_ITEMS = 4096
_LOADING = ("model", "device", "dtype", "attn", "load_format", "chat_template", "generation")
_SCHEDULE = ("method", "action", "ratio", "budget", "profile", "cuts")
_OPTION = re.compile(r"--([a-z][a-z-]*)")
_LAYERS = "+"  # between the numbers of `cuts`: commas part the arguments


@dataclass(frozen=True)
class Arguments:
    """What was asked for. max_new_tokens: for tasks that do not say. costs: where to write what it cost."""

    load: LoadOptions
    choice: ScheduleChoice
    batch_size: int
    max_new_tokens: int
    costs: Path | None


def read_arguments(given: Mapping[str, Any]) -> Arguments:
    """The arguments by name; raises UsageError, or ProfileError for a bad profile."""
    known = {name: _READERS[name](name, value) for name, value in _named(given).items()}
    seed = known.get("seed", 0)
    load = {name: known[name] for name in _LOADING if name in known}
    schedule: dict[str, Any] = {name: known.get(name) for name in _SCHEDULE}
    try:
        choice = ScheduleChoice(**schedule, seed=seed)
    except UsageError as error:
        raise UsageError(_OPTION.sub(_as_argument, str(error))) from error
    choice.check_profile()
    costs = known.get("costs")
    return Arguments(
        load=LoadOptions(**load, seed=seed),
        choice=choice,
        batch_size=known.get("batch_size", 1),
        max_new_tokens=known.get("max_new_tokens", NEW_TOKENS),
        costs=None if costs is None else Path(costs),
    )


def _named(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments under their own names, `pretrained` being `model`; what is None was not given."""
    named = {name: value for name, value in given.items() if value is not None}
    if "pretrained" in named:
        if "model" in named:
            raise UsageError("model and pretrained are the same argument: give one of them")
        named["model"] = named.pop("pretrained")
    if unknown := sorted(set(named) - set(_READERS)):
        allowed = ", ".join(["pretrained", *_READERS])
        shown = clean(unknown[0], one_line=True)
        raise UsageError(f"there is no model argument '{shown}': those of reroute are {allowed}")
    return named


def _as_argument(option: re.Match[str]) -> str:
    """An option of the command line as the argument that stands for it."""
    return option[1].replace("-", "_")


def _text(_name: str, value: Any) -> str:
    return clean(str(value), one_line=True)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{name}={_text(name, value)} is no number: give one, such as {name}=0.5")
    return float(value)


def _whole(low: int, high: int) -> Callable[[str, Any], int]:
    def read(name: str, value: Any) -> int:
        text = str(value)  # lmms-eval's own batch_size is text
        if not re.fullmatch(r"[0-9]{1,10}", text) or not low <= int(text) <= high:
            raise UsageError(
                f"{name}={_text(name, value)} is no whole number that is allowed: give {low} to {high}"
            )
        return int(text)

    return read


def _one_of(kind: type[StrEnum]) -> Callable[[str, Any], str]:
    allowed = [str(word) for word in kind]

    def read(name: str, value: Any) -> str:
        if value not in allowed:
            raise UsageError(f"{name}={_text(name, value)} is none of {', '.join(allowed)}: choose one")
        return str(value)

    return read


def _cuts(name: str, value: Any) -> tuple[int, ...] | None:
    return read_cuts(str(value), name=name, between=_LAYERS)


def _chat_template(_name: str, value: Any) -> str | None:
    return read_chat_template(str(value))


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "model": _text,
    "method": _text,
    "action": _one_of(ActionName),
    "ratio": _number,
    "budget": _number,
    "profile": _text,
    "cuts": _cuts,
    "seed": _whole(0, 2**31 - 1),
    "device": _text,
    "dtype": _one_of(DtypeName),
    "attn": _one_of(AttnName),
    "load_format": _one_of(LoadFormat),
    "chat_template": _chat_template,
    "generation": _one_of(GenerationName),
    "batch_size": _whole(1, _MOST_ITEMS),
    "max_new_tokens": _whole(1, _MOST_NEW),
    "costs": _text,
}
