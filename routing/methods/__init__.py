"""The methods, by name. A new one is a file beside these and a line here, or an entry point of a package."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import TypeVar

from routing.methods import (
    cdpruner,
    dart,
    divprune,
    downsample,
    fastervlm,
    fastv,
    flashvid,
    hiprune,
    holov,
    none,
    nuwa,
    pdrop,
    random,
    sparsevlm,
    visionzip,
    vispruner,
)
from routing.methods.method import Method, Request, Scorer
from routing.methods.selection import Selection
from routing.schedule import Action

__all__ = [
    "DENSE",
    "GROUP",
    "METHODS",
    "OWN",
    "RESIZING",
    "SCORERS",
    "SEARCHED",
    "SEARCHED_FIRST",
    "SELECTIONS",
    "SHOWN",
    "Method",
    "Request",
    "Scorer",
    "Selection",
]

_Value = TypeVar("_Value")

OWN: dict[str, Method] = {
    "none": none.METHOD,
    "random": random.METHOD,
    "fastv": fastv.METHOD,
    "pdrop": pdrop.METHOD,
    "nuwa": nuwa.METHOD,
    "divprune": divprune.METHOD,
    "downsample": downsample.METHOD,
    "visionzip": visionzip.METHOD,
    "vispruner": vispruner.METHOD,
    "fastervlm": fastervlm.METHOD,
    "hiprune": hiprune.METHOD,
    "holov": holov.METHOD,
    "cdpruner": cdpruner.METHOD,
    "flashvid": flashvid.METHOD,
    "sparsevlm": sparsevlm.METHOD,
    "dart": dart.METHOD,
}
DENSE = none.METHOD.name
SHOWN = pdrop.METHOD.name  # in examples
SEARCHED = tuple(name for name, method in OWN.items() if method.shape is not None)
RESIZING = downsample.METHOD.name  # in help
SEARCHED_FIRST = tuple(  # those that decide in the decoder, but for the control
    name for name in SEARCHED if OWN[name].published[Action.PRUNE] and OWN[name].scored != "none"
)
GROUP = "reroute.methods"  # of entry points, each of which names a Method


@cache
def _everything() -> dict[str, Method]:
    """Our own methods, then those of installed packages.

    A package whose method can't be had is passed over, with a sentence in the log of `routing`.
    """
    found = dict(OWN)
    for point in entry_points(group=GROUP):
        try:
            method = point.load()
            if not isinstance(method, Method):
                raise TypeError(f"it is no routing.Method but a {type(method).__name__}")
            if method.name in found:
                raise ValueError(f"there is a method '{method.name}' already")
        except (Exception, SystemExit) as error:  # noqa: BLE001  # another package's code
            why = " ".join(f"{type(error).__name__}: {error}".split())
            logging.getLogger("routing").warning("the method of %r can't be used: %s", point.value, why)
        else:
            found[method.name] = method
    return found


def _scorers(methods: Mapping[str, Method]) -> dict[str, Scorer]:
    return {name: scorer for method in methods.values() for name, scorer in method.scorers.items()}


def _selections(methods: Mapping[str, Method]) -> dict[str, Selection]:
    return {name: one for method in methods.values() for name, one in method.selections.items()}


class _Registry(Mapping[str, _Value]):
    """What is our own, and everything there is, which is looked for at the first list or unknown name."""

    def __init__(self, own: Mapping[str, _Value], everything: Callable[[], Mapping[str, _Value]]) -> None:
        self._own, self._everything = own, everything

    def __getitem__(self, name: str) -> _Value:
        return self._own[name] if name in self._own else self._everything()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._everything())

    def __len__(self) -> int:
        return len(self._everything())


METHODS: Mapping[str, Method] = _Registry(OWN, _everything)
SCORERS: Mapping[str, Scorer] = _Registry(_scorers(OWN), lambda: _scorers(_everything()))
SELECTIONS: Mapping[str, Selection] = _Registry(_selections(OWN), lambda: _selections(_everything()))
