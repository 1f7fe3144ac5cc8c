"""From what was typed (--method, --ratio, --budget, -p) to the schedule of one prompt.

Knows routing's solvers and profiles, both without torch; not models, pictures or measurements.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from reroute_cli.console.errors import UsageError

if TYPE_CHECKING:
    from routing import Schedule

DENSE = "none"
_LAYER = re.compile("[0-9]{1,6}")
_CLS_TOWERS = ("clip_vision_model",)  # vision towers whose CLS token can rank patches


def read_cuts(text: str | None, *, name: str = "--cuts", between: str = ",") -> tuple[int, ...] | None:
    """'3,5,8' -> (3, 5, 8); None where nothing was typed; raises UsageError for what is no list of layers.

    name: what the list is called where it stands. Whether the layers are there, the model decides.
    """
    if text is None:
        return None
    words = [word.strip() for word in text.split(between)]
    layers = tuple(int(word) for word in words if _LAYER.fullmatch(word))
    if len(layers) < len(words) or any(later <= earlier for earlier, later in pairwise(layers)):
        form = between.join(("3", "5", "8"))
        raise UsageError(f"{name} '{text}' is no list of decoder layers: give rising numbers, like {form}")
    return layers


@dataclass(frozen=True)
class Target:
    """What a schedule is made for: one model, one prompt. visual: its visual tokens."""

    layers: int
    first_layer: int
    visual: int
    vision_tower: str


@dataclass(frozen=True)
class ScheduleChoice:
    """The schedule options as typed; raises UsageError at construction when they contradict each other.

    cuts: decoder layers at whose input the method decides, in place of its own. made: the schedule itself,
    where a search has made one under the method's name and for this amount.
    """

    method: str | None = None
    action: str | None = None
    ratio: float | None = None
    budget: float | None = None
    profile: str | None = None
    seed: int = 0
    cuts: tuple[int, ...] | None = None
    made: Schedule | None = None

    def __post_init__(self) -> None:
        given = [f"--{name}" for name in ("method", "action", "ratio", "budget", "cuts") if self._typed(name)]
        if self.profile is not None and given:
            raise UsageError(f"a profile fixes the whole schedule: drop {given[0]} or drop --profile")
        if self.ratio is not None and self.budget is not None:
            raise UsageError("--ratio and --budget say the same thing in two ways: give one of them")
        if self.profile is None and self.method is None and given:
            raise UsageError(f"{given[0]} needs a method to apply to: add --method ({self._methods()})")
        if self.method is not None:
            self._check_method(self.method)

    @property
    def name(self) -> str:
        """The method or the profile, to show."""
        return self.profile or self.method or DENSE

    def check_profile(self) -> None:
        """Read the profile now (raises ProfileError), so that a bad one is known before a model is loaded."""
        if self.profile is not None:
            import profiles

            profiles.load(self.profile)

    def caveat(self, family: str, layers: int) -> str | None:
        """What to say when a profile was made for another model; None when it fits or there is none."""
        if self.profile is None:
            return None
        import profiles

        made = profiles.load(self.profile)
        if made.model_family in (None, family) and made.layers in (None, layers):
            return None
        for_whom = f"{made.model_family or 'any family'} with {made.layers or 'any number of'} layers"
        return f"note: the profile '{made.name}' was made for {for_whom}; this is {family} with {layers}"

    def build(self, target: Target) -> Schedule:
        """The schedule for this prompt (raises the engine's BudgetError, ScheduleError or ProfileError)."""
        import routing
        from routing.budget import ratio_for_budget, solve

        if self.profile is not None:
            import profiles

            try:
                found = profiles.load(self.profile)
                schedule = found.schedule(target.layers, target.visual, target.first_layer)
                schedule.counts(target.visual, target.layers)  # a layer that this model lacks shows here
            except routing.ScheduleError as error:
                raise UsageError(f"the profile '{self.profile}' does not fit this model: {error}") from error
            return schedule
        if self.method in (None, DENSE) or not target.visual:
            return routing.Schedule()
        if self.made is not None:
            return self.made
        ratio = self.ratio
        if ratio is None:
            ratio = ratio_for_budget(self.budget or 0.0, target.visual)
            if ratio >= 1.0:  # so small a budget that nothing is left of it beside 1
                raise UsageError(
                    f"--budget {self.budget} is nothing beside {target.visual} visual tokens: give 1 or more"
                )
        return solve(
            self.method or DENSE,
            action=self.action or "prune",
            ratio=ratio,
            layers=target.layers,
            first_layer=target.first_layer,
            visual=target.visual,
            **self._method_options(target),
        )

    def identity(self) -> dict[str, Any]:
        """What determines the schedule of any prompt; a profile by its content, not by its name."""
        if self.profile is not None:
            import profiles

            return {"profile": asdict(profiles.load(self.profile).recipe)}  # type: ignore[call-overload]
        if self.method in (None, DENSE):
            return {"method": DENSE}
        from routing.methods import METHODS

        found: dict[str, Any] = {
            "method": self.method,
            "action": str(self.action or "prune"),
            "ratio": self.ratio,
            "budget": self.budget,
            "seed": self.seed if "seed" in METHODS[self.method or DENSE].options else None,
        }
        if self.cuts is not None:
            found["cuts"] = list(self.cuts)
        return found if self.made is None else found | {"made": self.made.as_dict()}

    def asked_ratio(self, visual: int) -> float | None:
        """The reduction ratio that was asked for; None under a profile, which asks for none."""
        if self.profile is not None:
            return None
        if self.budget is not None:
            return 1 - self.budget / visual if visual else 0.0
        return self.ratio or 0.0

    def _typed(self, name: str) -> bool:
        return getattr(self, name) is not None

    def _method_options(self, target: Target) -> dict[str, Any]:
        """Options that a method takes and that follow from the command line or the model."""
        from routing.methods import METHODS

        offered = {
            "cuts": self.cuts,
            "seed": self.seed,
            "vision_scorer": "cls" if target.vision_tower in _CLS_TOWERS else "column_mean",
        }
        taken = METHODS[self.method or DENSE].options
        return {name: value for name, value in offered.items() if name in taken and value is not None}

    def _check_method(self, method: str) -> None:
        from routing.methods import METHODS

        if method not in METHODS:
            raise UsageError(f"there is no method '{method}': choose one of {self._methods()}")
        if self.ratio is not None and not 0 <= self.ratio < 1:
            raise UsageError(f"--ratio {self.ratio} is out of range: give at least 0 (dense) and less than 1")
        if self.budget is not None and not self.budget > 0:
            raise UsageError(f"--budget {self.budget} is no number of tokens: give more than 0 per layer")
        if method != DENSE and self.ratio is None and self.budget is None:
            raise UsageError(f"--method {method} needs an amount: add --ratio 0.667 or --budget TOKENS")
        if method == DENSE and (self.ratio or self.budget is not None or self.cuts is not None):
            raise UsageError("--method none keeps every visual token: drop --ratio, --budget and --cuts")

    @staticmethod
    def _methods() -> str:
        from routing.methods import METHODS

        return ", ".join(METHODS)
