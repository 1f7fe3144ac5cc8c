"""What a profile is, and how a file of one's own becomes one.

A profile file holds either explicit stages

    title: three decisions
    action: reroute                 # prune (default) or reroute
    stages:
      - {layer: 3, keep_ratio: 0.27}
      - {layer: 5, keep_ratio: 0.39, scored_by: 4}
    vision: {keep_ratio: 0.5}       # optional; also layer, scorer, tau, protect, selection, settings
    scorer: last_query              # optional; also pool, seed

or a method and an amount, resolved for the model at hand

    title: PyramidDrop at a ninth
    method: pdrop
    action: prune
    ratio: 0.889                    # or budget: 64 (visual tokens per layer)
    options: {cuts: [2, 7, 15, 23]} # optional, the method's own options

Both may add name, model_family, source, rounding (floor or budget), layers and visual: the depth and the
number of visual tokens the profile was made for, and provenance: how it was found, as `reroute tune` writes
it, for people to read. Knows schedules and solvers, no YAML and no model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from profiles.reader import YamlSection
from routing.errors import ScheduleError
from routing.methods import DENSE, METHODS, SCORERS, SELECTIONS
from routing.schedule import Action, Pool, Rounding, Schedule, Stage, VisionStage
from routing.solve import ratio_for_budget, solve

MOST_LAYERS, MOST_VISUAL = 1000, 1_000_000  # schedules are worked out layer by layer

_ABOUT = ("name", "title", "model_family", "source", "rounding", "layers", "visual", "provenance")
PROVENANCE: dict[str, type[str] | type[int] | type[float]] = {
    "tool": str,
    "created": str,
    "model": str,
    "revision": str,
    "config_digest": str,
    "weights": str,
    "questions": str,
    "questions_digest": str,
    "searched_pictures": int,
    "reported_pictures": int,
    "reported_questions": int,
    "score": str,
    "value": float,
    "low": float,
    "high": float,
    "dense_value": float,
    "asked_budget": float,
    "asked_ratio": float,
    "asked_floor": float,
    "floor_of_dense": str,
    "floor_holds": str,
    "average_visual": float,
    "answers": int,
    "seed": int,
}
_STAGED = (*_ABOUT, "action", "stages", "vision", "scorer", "pool", "seed")
_SOLVED = (*_ABOUT, "action", "method", "ratio", "budget", "options")


class Recipe(Protocol):
    """Turns a model's depth and a prompt's visual tokens into a schedule."""

    def schedule(
        self, layers: int, visual: int | None, first_layer: int, last_layer: int | None = None
    ) -> Schedule:
        """The schedule for this depth and this many visual tokens."""
        ...


@dataclass(frozen=True)
class Fixed:
    """A schedule as it stands."""

    fixed: Schedule

    def schedule(
        self, layers: int, visual: int | None, first_layer: int, last_layer: int | None = None
    ) -> Schedule:
        """The schedule itself, whatever the model; a layer it does not have is a ScheduleError later."""
        return self.fixed


@dataclass(frozen=True)
class Solved:
    """A method and an amount. Cut layers among the options hold for the depth `made_for`, if one is named."""

    method: str
    action: Action
    ratio: float | None
    budget: float | None
    rounding: Rounding
    options: Mapping[str, Any] = field(default_factory=dict)
    made_for: int | None = None

    def schedule(
        self, layers: int, visual: int | None, first_layer: int, last_layer: int | None = None
    ) -> Schedule:
        """The solved schedule; at another depth with the method's own cuts, dense without pictures."""
        options = dict(self.options)
        if self.made_for not in (None, layers):
            options.pop("cuts", None)
        ratio = self.ratio
        if visual == 0:
            return Schedule(action=self.action, rounding=self.rounding)
        if ratio is None:
            if visual is None:
                raise ScheduleError("a budget in tokens needs the number of visual tokens of the prompt")
            ratio = ratio_for_budget(self.budget or 0.0, visual)
        return solve(
            self.method,
            action=self.action,
            ratio=ratio,
            layers=layers,
            first_layer=first_layer,
            last_layer=last_layer,
            visual=visual,
            rounding=self.rounding,
            **options,
        )


@dataclass(frozen=True)
class Profile:
    """A named schedule.

    origin: "release" (verbatim from the source), "exact" (solved for the budget it is named after),
    "solved" or "user". layers and visual: what it was made for, where that is known. method: whose schedule
    it is; None where it only has stages. budget: visual tokens per layer that it is named after; None where
    it is not. provenance: how it was found, under names of PROVENANCE; nothing follows from it.
    """

    name: str
    title: str
    recipe: Recipe
    origin: str = "user"
    model_family: str | None = None
    source: str = ""
    rounding: Rounding = Rounding.FLOOR
    layers: int | None = None
    visual: int | None = None
    method: str | None = None
    budget: int | None = None
    provenance: Mapping[str, str | int | float] = field(default_factory=dict)

    def schedule(
        self,
        layers: int,
        visual: int | None = None,
        first_layer: int = 0,
        last_layer: int | None = None,
    ) -> Schedule:
        """The schedule for a decoder of `layers` layers and a prompt of `visual` visual tokens.

        first_layer, last_layer: the first and the last layer that may decide. Raises BudgetError or
        ScheduleError where it does not fit.
        """
        return self.recipe.schedule(layers, visual, first_layer, last_layer)

    @property
    def average(self) -> float | None:
        """True average visual tokens per layer on what the profile was made for, where that is known."""
        if self.layers is None or self.visual is None:
            return None
        return self.schedule(self.layers, self.visual).average_tokens(self.visual, self.layers)


def from_section(section: YamlSection, name: str) -> Profile:
    """The profile a file of one's own describes; ProfileError says what is wrong with it."""
    if ("stages" in section) == ("method" in section):
        raise section.error("", "a profile holds either stages or a method, and exactly one of them")
    recipe = _fixed(section) if "stages" in section else _solved(section)
    profile = Profile(
        name=section.text("name", name),
        title=section.text("title", name),
        recipe=recipe,
        model_family=section.text("model_family") if "model_family" in section else None,
        source=section.text("source") if "source" in section else "",
        rounding=_rounding(section),
        layers=_one_to(MOST_LAYERS, section, "layers"),
        visual=_one_to(MOST_VISUAL, section, "visual"),
        method=recipe.method if isinstance(recipe, Solved) else None,
        provenance=_provenance(section.section("provenance")) if "provenance" in section else {},
    )
    return _checked(section, profile)


def _provenance(section: YamlSection) -> dict[str, str | int | float]:
    """Lines of text and numbers, under the names that are known."""
    section.only(*PROVENANCE)
    readers: dict[type, Callable[[str], str | int | float]] = {
        str: section.text,
        int: section.whole,
        float: section.number,
    }
    return {name: readers[PROVENANCE[name]](name) for name in section}


def _checked(section: YamlSection, profile: Profile) -> Profile:
    """A profile that fits what it says it was made for."""
    if profile.layers is not None:
        try:
            profile.schedule(profile.layers, profile.visual).counts(profile.visual or 1, profile.layers)
        except ValueError as error:
            raise section.error("", str(error)) from error
    return profile


def _fixed(section: YamlSection) -> Fixed:
    section.only(*_STAGED)
    try:
        stages = [_stage(stage) for stage in section.sections("stages")]
        schedule = Schedule(
            tuple(stages),
            action=Action(section.choice("action", tuple(Action), "prune")),
            scorer=section.choice("scorer", SCORERS, "last_query"),
            vision=_vision(section.section("vision")) if "vision" in section else None,
            pool=Pool(section.choice("pool", tuple(Pool), "all")),
            rounding=_rounding(section),
            seed=section.whole("seed", 0),
        )
    except ScheduleError as error:
        raise section.error("stages", str(error)) from error
    return Fixed(schedule)


def _stage(section: YamlSection) -> Stage:
    section.only("layer", "keep_ratio", "scored_by")
    scored_by = section.whole("scored_by") if "scored_by" in section else None
    try:
        return Stage(section.whole("layer"), section.number("keep_ratio"), scored_by)
    except ScheduleError as error:
        raise section.error("", str(error)) from error


def _vision(section: YamlSection) -> VisionStage:
    section.only("keep_ratio", "layer", "scorer", "tau", "protect", "selection", "settings")
    settings = section.section("settings") if "settings" in section else None
    try:
        return VisionStage(
            section.number("keep_ratio"),
            layer=section.whole("layer", 0),
            scorer=section.choice("scorer", ("cls", "column_mean"), "cls"),
            tau=section.number("tau") if "tau" in section else None,
            protect=section.number("protect") if "protect" in section else None,
            selection=section.choice("selection", SELECTIONS, "anchors"),
            settings={} if settings is None else {name: settings.number(name) for name in settings},
        )
    except ScheduleError as error:
        raise section.error("", str(error)) from error


def _solved(section: YamlSection) -> Solved:
    section.only(*_SOLVED)
    method = section.choice("method", METHODS)
    if method != DENSE and ("ratio" in section) == ("budget" in section):
        raise section.error("", "a method needs a ratio or a budget, and exactly one of them")
    ratio = section.number("ratio", 0.0) if "budget" not in section else None
    if ratio is not None and not 0 <= ratio < 1:
        raise section.error("ratio", f"a reduction ratio is at least 0 and below 1, got {ratio}")
    budget = section.number("budget") if "budget" in section else None
    if budget is not None and budget <= 0:
        raise section.error("budget", f"must be above 0 visual tokens per layer, got {budget}")
    options = section.section("options") if "options" in section else {}
    if isinstance(options, YamlSection):
        options.only(*METHODS[method].options)
    action = Action(section.choice("action", tuple(Action), "prune"))
    layers = _one_to(MOST_LAYERS, section, "layers")
    return Solved(method, action, ratio, budget, _rounding(section), dict(options), layers)


def _rounding(section: YamlSection) -> Rounding:
    return Rounding(section.choice("rounding", tuple(Rounding), "floor"))


def _one_to(most: int, section: YamlSection, key: str) -> int | None:
    if key not in section:
        return None
    value = section.whole(key)
    if not 1 <= value <= most:
        raise section.error(key, f"must be at least 1 and at most {most}, got {value}")
    return value
