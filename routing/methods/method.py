"""What a reduction method is to this package, and what it is asked: data, and the reading of options.

Does not know any method by name; the registry is `routing.methods.METHODS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from routing.errors import ScheduleError
from routing.schedule import Action, Rounding, Schedule

PUBLISHED_DEPTH = 32  # the published cut layers are layers of LLaVA-1.5-7B


@dataclass(frozen=True)
class Request:
    """One question to a solver.

    ratio: reduction ratio in [0, 1). layers: decoder layers. first_layer: the first layer that may be
    reduced.
    visual: visual tokens of the sample, if known; without it at least one token in a thousand is kept.
    options: the method's own options, by name.
    """

    method: str
    action: Action
    ratio: float
    layers: int
    first_layer: int = 0
    visual: int | None = None
    rounding: Rounding = Rounding.FLOOR
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Average fraction of the visual tokens per layer."""
        return 1.0 - self.ratio

    def choice(self, option: str, allowed: tuple[str, ...]) -> str:
        """A named option, `allowed[0]` when it is not given."""
        value = self.options.get(option, allowed[0])
        if value not in allowed:
            raise ScheduleError(f"{self.method}: {option} must be one of {', '.join(allowed)}, got {value!r}")
        return str(value)

    def cuts(self, above: int | None = None) -> tuple[int, ...] | None:
        """The explicit cut layers, or None; `above` is a layer that they must exceed."""
        given = self.options.get("cuts")
        if given is None:
            return None
        least = self.first_layer if above is None else above + 1
        cuts = _whole_numbers(self.method, given)
        if not cuts or any(later <= earlier for earlier, later in pairwise(cuts)):
            raise ScheduleError(f"{self.method}: cut layers must be strictly increasing, got {list(cuts)}")
        if cuts[0] < least or cuts[-1] >= self.layers:
            raise ScheduleError(
                f"{self.method}: cut layers must lie in {least}..{self.layers - 1}, got {list(cuts)}"
            )
        return cuts


@dataclass(frozen=True)
class Method:
    """One published way to reduce visual tokens.

    scored: where the ranking comes from: "language", "vision+language" or "none".
    published: per action, the decoder layers (of 32) at whose input tokens are reduced.
    options: option name -> what it does; `solver` turns a request into a schedule.
    """

    name: str
    title: str
    paper: str
    year: int
    summary: str
    scored: str
    published: Mapping[Action, tuple[int, ...]]
    solver: Callable[[Request], Schedule]
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def actions(self) -> tuple[Action, ...]:
        """The actions this method can be run with."""
        return tuple(self.published)

    def stages(self, action: Action | str, layers: int, first_layer: int = 0) -> tuple[int, ...]:
        """The default decoder cut layers at this depth."""
        return scaled(self.published[Action(action)], layers, first_layer)

    def solve(self, request: Request) -> Schedule:
        """The schedule that answers the request; raises BudgetError or ScheduleError."""
        if request.action not in self.published:
            raise ScheduleError(f"{self.name} can {', '.join(self.actions)}, not {request.action}")
        if unknown := sorted(set(request.options) - set(self.options)):
            takes = ", ".join(self.options) or "no options"
            raise ScheduleError(f"{self.name} does not take {', '.join(unknown)}; it takes {takes}")
        return self.solver(request)


def scaled(published: Iterable[int], layers: int, first_layer: int = 0) -> tuple[int, ...]:
    """Published cut layers (of 32) moved to the same relative depth of another decoder.

    At least one whole layer runs first where the model has two, none is reduced before `first_layer`, and
    on very shallow models colliding cuts move up by one layer or fall off the end.
    """
    cuts: list[int] = []
    least = max(first_layer, 1 if layers > 1 else 0)
    for layer in published:
        cut = max(least, round(layers * layer / PUBLISHED_DEPTH))
        if cut < layers:
            cuts.append(cut)
        least = cut + 1
    return tuple(cuts)


def _whole_numbers(method: str, given: object) -> tuple[int, ...]:
    numbers = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
    if any(isinstance(number, bool) or not isinstance(number, int) for number in numbers):
        raise ScheduleError(f"{method}: cuts must be layer numbers, got {given!r}")
    return numbers
