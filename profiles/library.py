"""Finds profiles: by name among this package's own, or as a file.

Knows where files are, not what is in them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from profiles.errors import ProfileError
from profiles.profile import (
    Fixed,
    Profile,
    Recipe,
    Solved,
    from_section,
)
from profiles.reader import YamlSection, folder, read
from routing.methods import METHODS
from routing.methods.solver import NUDGE
from routing.schedule import Action, Rounding, Schedule

_SUFFIXES = (".yaml", ".yml")


def names() -> list[str]:
    """Names of the profiles that come with the package."""
    return list(_own())


def published() -> list[Profile]:
    """The profiles that come with the package."""
    return list(_own().values())


def load(name_or_path: str | Path) -> Profile:
    """A profile by name, or from a YAML file (a path that ends in .yaml or .yml, or has a folder in it).

    Raises ProfileError: no such name (with the nearest ones), an unreadable file, or what is wrong inside it.
    """
    text = str(name_or_path)
    if text in _own():
        return _own()[text]
    path = Path(name_or_path)
    if isinstance(name_or_path, Path) or path.suffix in _SUFFIXES or len(path.parts) > 1:
        return from_section(read(path), path.stem)
    close = difflib.get_close_matches(text, _own(), n=3)
    hint = f"did you mean {', '.join(close)}?" if close else "list them, or give the path of a .yaml file"
    raise ProfileError(text, "", f"no profile has this name; {hint}")


@cache
def _own() -> dict[str, Profile]:
    found = {}
    for path in folder("published"):
        found.update({profile.name: profile for profile in expand(read(path, path.name))})
    for path in folder("presets"):
        found[path.stem] = from_section(read(path, path.name), path.stem)
    return found


_KEYS = ("method", "action", "cuts", "tiers", "options", "source", "keep", "tokens")


def expand(collection: YamlSection) -> Iterator[Profile]:
    """Every profile of one file."""
    collection.only("model", "title", "model_family", "layers", "visual", "tiers", "variants")
    variants = collection.section("variants")
    for name in variants:
        variant = variants.section(name)
        variant.only(*_KEYS)
        for tier in (variant if "tiers" in variant else collection).wholes("tiers"):
            stem = f"{collection.text('model')}-avg{tier}-{name}"
            yield _profile(collection, variant, tier, stem)
            yield _exact(collection, variant, tier, f"{stem}-exact")


def _profile(collection: YamlSection, variant: YamlSection, tier: int, name: str) -> Profile:
    keeps, recipe = _keeps(collection, variant, tier), _solver(collection, variant, tier)
    if keeps is None:
        return _named(collection, variant, tier, name, "solved", recipe, Rounding.FLOOR)
    solved = recipe.schedule(collection.whole("layers"), collection.whole("visual"), 0)
    return _named(collection, variant, tier, name, "release", Fixed(_verbatim(solved, keeps)), Rounding.FLOOR)


def _exact(collection: YamlSection, variant: YamlSection, tier: int, name: str) -> Profile:
    recipe = _solver(collection, variant, tier, Rounding.BUDGET)
    return _named(collection, variant, tier, name, "exact", recipe, Rounding.BUDGET)


def _named(
    collection: YamlSection,
    variant: YamlSection,
    tier: int,
    name: str,
    origin: str,
    recipe: Recipe,
    rounding: Rounding,
) -> Profile:
    layers, visual = collection.whole("layers"), collection.whole("visual")
    average = recipe.schedule(layers, visual, 0).average_tokens(visual, layers)
    arm = f"{METHODS[variant.text('method')].title}, {variant.text('action')}"
    return Profile(
        name=name,
        title=f"{arm}, {collection.text('title')}: named for {tier} tokens a layer, averages {average:.1f}",
        recipe=recipe,
        origin=origin,
        model_family=collection.text("model_family"),
        source=variant.text("source"),
        rounding=rounding,
        layers=layers,
        visual=visual,
        method=variant.text("method"),
        budget=tier,
    )


def _solver(
    collection: YamlSection, variant: YamlSection, tier: int, rounding: Rounding = Rounding.FLOOR
) -> Solved:
    options = dict(variant.section("options")) if "options" in variant else {}
    if "cuts" in variant:
        options["cuts"] = variant.wholes("cuts")
    return Solved(
        method=variant.text("method"),
        action=Action(variant.text("action")),
        ratio=1 - tier / collection.whole("visual"),
        budget=None,
        rounding=rounding,
        options=options,
        made_for=collection.whole("layers"),
    )


def _keeps(collection: YamlSection, variant: YamlSection, tier: int) -> list[float] | None:
    """Published keep ratios of a tier, given as such or as token counts; None where nothing was published."""
    if "keep" in variant:
        return variant.section("keep").numbers(f"avg{tier}")
    if "tokens" not in variant:
        return None
    visual = collection.whole("visual")
    return [count / visual * (1 + NUDGE) for count in variant.section("tokens").wholes(f"avg{tier}")]


def _verbatim(solved: Schedule, keeps: list[float]) -> Schedule:
    """A published schedule as it stands: a method's own at this depth, with other keep ratios."""
    first = len(keeps) - len(solved.stages)
    return replace(
        solved,
        vision=replace(solved.vision, keep_ratio=keeps[0]) if solved.vision and first else None,
        stages=tuple(
            replace(stage, keep_ratio=keep) for stage, keep in zip(solved.stages, keeps[first:], strict=True)
        ),
    )
