"""From what was asked for to schedules by name: the dense model first, then each that is measured beside it.

Knows option groups, routing's solvers and profiles, all without torch; not models, images or measurements.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from reroute_cli.console.command_options import TracedSchedules
from reroute_cli.console.errors import UsageError
from reroute_cli.console.options import ACTIONS, ArmsOptions, ScheduleOptions
from reroute_cli.console.study_options import GridOptions
from reroute_cli.console.typed import layers_in
from reroute_cli.records.metrics import DENSE_ARM
from routing.families import family_of
from routing.methods import DENSE, METHODS
from routing.schedule import Schedule  # an option group reads the types of its fields

if TYPE_CHECKING:
    from reroute_cli.records.sweep import Asked
    from routing.solve import Target

_NUMBER = re.compile(r"[0-9]{0,9}\.?[0-9]{1,9}")
_FORM = (
    f"METHOD[@LAYER+LAYER...][:ACTION][:NAME=VALUE...] (ACTION is {' or '.join(ACTIONS)}), "
    "separated by commas"
)
_RATIOS = "0.667,0.778,0.889"  # of a grid, by default


@dataclass(frozen=True)
class ScheduleChoice(ScheduleOptions):
    """One schedule as it was asked for, and how it is made for a prompt; raises UsageError like its options.

    made: the schedule itself, where a search has made one under the method's name and for this amount.
    """

    made: Schedule | None = None

    @classmethod
    def of(cls, options: ScheduleOptions) -> ScheduleChoice:
        """The schedule that these options ask for; its profile is read now (raises ProfileError)."""
        if options.profile is not None:
            import profiles

            profiles.load(options.profile)
        return cls(**{one.name: getattr(options, one.name) for one in fields(ScheduleOptions)})

    @property
    def name(self) -> str:
        """The method or the profile, to show."""
        return self.profile or self.method or DENSE

    @property
    def routes(self) -> bool:
        """Whether the engine has anything to do: not for the dense model, nor for a smaller image."""
        return self.name != DENSE and not self.resizes

    def caveat(self, family: str, layers: int) -> str | None:
        """What to say of it on this model: a profile was made for another, a smaller image saves nothing."""
        if self.resizes and family_of(family).one_size:
            return (
                f"note: {self.method} saves nothing with {family}: its processor brings every image to one "
                "size, so the smaller one has as many visual tokens and less detail"
            )
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
        from routing.solve import ratio_for_budget, solve

        if self.profile is not None:
            import profiles

            try:
                found = profiles.load(self.profile)
                schedule = found.schedule(target.layers, target.visual, target.first_layer, target.last_layer)
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
        if self.resizes:
            return routing.Schedule()
        return solve(
            self.method or DENSE,
            action=self.action or "prune",
            ratio=ratio,
            layers=target.layers,
            first_layer=target.first_layer,
            last_layer=target.last_layer,
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
        found: dict[str, Any] = {
            "method": self.method,
            "action": self.action or "prune",
            "ratio": self.ratio,
            "budget": self.budget,
            "seed": self.seed if "seed" in METHODS[self.method or DENSE].options else None,
        }
        if self.layers is not None:
            found["cuts"] = list(self.layers)
        if self.made is not None:
            return found | {"made": self.made.as_dict()}
        return found | {"settings": self.settings} if self.set else found

    def asked_ratio(self, visual: int) -> float | None:
        """The reduction ratio that was asked for; None under a profile, which asks for none."""
        if self.profile is not None:
            return None
        if self.budget is not None:
            return 1 - self.budget / visual if visual else 0.0
        return self.ratio or 0.0

    def _method_options(self, target: Target) -> dict[str, Any]:
        """Options that a method takes: its settings, and what follows from other options or the model."""
        offered = {
            "cuts": self.layers,
            "seed": self.seed,
            "vision_scorer": target.vision_scorer,
        }
        taken = METHODS[self.method or DENSE].options
        found = {name: value for name, value in offered.items() if name in taken and value is not None}
        return found | self.settings


@dataclass(frozen=True)
class Arm:
    """One schedule over all items, under the name that reports, gates and tables know it by."""

    name: str
    choice: ScheduleChoice

    @classmethod
    def of(cls, choice: ScheduleChoice) -> Arm:
        """The schedule under the name of its profile, or of its method and action: 'fastv@3+5-reroute'."""
        if choice.resizes:
            return cls(place_of(choice), choice)
        if choice.profile is None:
            return cls(f"{place_of(choice)}-{choice.action or ACTIONS[0]}", choice)
        import profiles

        return cls(profiles.load(choice.profile).name, choice)

    @property
    def method(self) -> str | None:
        """The method by name; None for the dense arm and for a profile."""
        return None if self.choice.method == DENSE else self.choice.method

    @property
    def action(self) -> str | None:
        """prune or reroute, as asked for or by default; None where there is none to choose.

        That is the dense arm, a profile, and a method that makes images smaller.
        """
        return (self.choice.action or ACTIONS[0]) if self.method and not self.choice.resizes else None

    @property
    def asked(self) -> Asked:
        """What was asked of the arm, as pairs of arms are found by it."""
        from reroute_cli.records.sweep import Asked  # the models of reports, which one answer has no use for

        one = self.choice
        return Asked(self.name, place_of(one), self.method, self.action, one.ratio, one.budget, one.layers)


def place_of(choice: ScheduleChoice) -> str:
    """The method, with decision layers and settings if they were asked for: 'fastv@3+5:scored_by=own'."""
    layers = "" if choice.layers is None else "@" + "+".join(map(str, choice.layers))
    return ":".join((f"{choice.method}{layers}", *(choice.set or ())))


def arms_of(options: ScheduleOptions | GridOptions) -> tuple[Arm, ...]:
    """The dense arm and every schedule that is asked for beside it; raises UsageError or ProfileError."""
    if isinstance(options, GridOptions):
        routed = _grid(options)
    elif isinstance(options, ArmsOptions) and options.arms is not None:
        routed = _listed(options.arms, options)
    elif isinstance(options, TracedSchedules) and options.versus:
        routed = [Arm.of(replace(ScheduleChoice.of(options), action=action)) for action in ACTIONS]
    elif options.profile is None and options.method in (None, DENSE):
        routed = []
    else:
        routed = [Arm.of(ScheduleChoice.of(options))]
    arms = (Arm(DENSE_ARM, ScheduleChoice(seed=options.seed)), *routed)
    counts = Counter(arm.name for arm in arms)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise UsageError(
            f"two arms would be called '{twice[0]}': name each schedule once, and none '{DENSE_ARM}'"
        )
    return arms


def _listed(text: str, options: ScheduleOptions) -> list[Arm]:
    """'nuwa,fastv@3+5:reroute' -> nuwa-prune, nuwa-reroute and fastv@3+5-reroute, in the order typed.

    Behind the action, or in its place, come settings: 'sparsevlm:version=2' -> sparsevlm:version=2-prune, ...
    options: the amount and the seed of all of them.
    """
    arms: list[Arm] = []
    for word in (part.strip() for part in text.split(",")):
        named, *behind = (part.strip() for part in word.split(":"))
        method, at, layers = (part.strip() for part in named.partition("@"))
        settings = [part.replace(" ", "") for part in behind if "=" in part]
        actions = [part for part in behind if "=" not in part]
        if not method or method == DENSE or len(actions) > 1 or not set(actions) <= set(ACTIONS):
            dense = "; the dense arm is always there" if method == DENSE else ""
            raise UsageError(f"--arms has '{word}' in it{dense}: give {_FORM}")
        shared = ScheduleChoice(
            method=method,
            ratio=options.ratio,
            budget=options.budget,
            layers=layers_in(layers, name=f"--arms has '{word}' in it:", between="+") if at else None,
            set=settings,
            seed=options.seed,
        )
        if shared.resizes and not actions:
            arms.append(Arm.of(shared))
            continue
        arms += [Arm.of(replace(shared, action=one)) for one in ACTIONS if one in (actions or ACTIONS)]
    return arms


def _grid(options: GridOptions) -> list[Arm]:
    """Every listed schedule, by default every method under both actions, at each amount: 'fastv-prune 0.889'.

    Least reduction first. Two amounts that come to the same whole tokens stay two arms, each with answers of
    its own: a row says what was asked for, not what was inferred.
    """
    listed = options.arms
    if listed is None:
        listed = ",".join(name for name in METHODS if name != DENSE)
    if options.budgets is not None:
        form = "tokens per decoder layer, like 85,57,28"
        numbers = sorted(_numbers("--budgets", options.budgets, form), reverse=True)
        amounts = [ArmsOptions(arms=listed, budget=number, seed=options.seed) for number in numbers]
    else:
        form = "reduction ratios of at least 0 and below 1, like 0.667,0.889"
        numbers = sorted(_numbers("--ratios", _RATIOS if options.ratios is None else options.ratios, form))
        if numbers[-1] >= 1:
            raise UsageError(f"--ratios has {numbers[-1]:g} in it: give {form}")
        amounts = [ArmsOptions(arms=listed, ratio=number, seed=options.seed) for number in numbers]
    rows = [
        [replace(arm, name=f"{arm.name} {number:g}") for arm in _listed(listed, amount)]
        for number, amount in zip(numbers, amounts, strict=True)
    ]
    return [arm for arms in zip(*rows, strict=True) for arm in arms]


def _numbers(option: str, text: str, form: str) -> list[float]:
    """The numbers of a list, each once."""
    words = [word.strip() for word in text.split(",")]
    if wrong := [word for word in words if not _NUMBER.fullmatch(word)]:
        raise UsageError(f"{option} has '{wrong[0]}' in it: give {form}")
    numbers = [float(word) for word in words]
    if twice := [number for number in numbers if numbers.count(number) > 1]:
        raise UsageError(f"{option} has {twice[0]:g} twice: name each once")
    return numbers
