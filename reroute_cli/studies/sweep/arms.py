"""The arms of a sweep: every listed schedule at every amount, which of them a model reaches, which are pairs.

Knows what can be typed and the solvers; no torch, no measurements.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from reroute_cli.arms import Arm, ArmOptions, arms_of, place_of
from reroute_cli.console.errors import UsageError
from reroute_cli.schedules import DENSE, ScheduleChoice, Target
from routing.errors import BudgetError

DEFAULT_RATIOS = "0.667,0.778,0.889"
_NUMBER = re.compile(r"[0-9]{0,9}\.?[0-9]{1,9}")


@dataclass(frozen=True)
class Amount:
    """How much is reduced: a reduction ratio, or an average number of visual tokens per decoder layer."""

    ratio: float | None = None
    budget: float | None = None

    @property
    def text(self) -> str:
        """'0.889' or '64', as it stands in an arm's name."""
        return f"{self.ratio if self.ratio is not None else self.budget:g}"


def read_amounts(ratios: str | None, budgets: str | None) -> tuple[Amount, ...]:
    """What --ratios or --budgets lists, least reduction first; raises UsageError."""
    if ratios is not None and budgets is not None:
        raise UsageError("--ratios and --budgets say the same thing in two ways: give one of them")
    if budgets is not None:
        found = _numbers("--budgets", budgets, "tokens per decoder layer, like 85,57,28")
        return tuple(Amount(budget=value) for value in sorted(found, reverse=True))
    form = "reduction ratios of at least 0 and below 1, like 0.667,0.889"
    found = sorted(_numbers("--ratios", DEFAULT_RATIOS if ratios is None else ratios, form))
    if found[-1] >= 1:
        raise UsageError(f"--ratios has {found[-1]:g} in it: give {form}")
    return tuple(Amount(ratio=value) for value in found)


def _numbers(option: str, text: str, form: str) -> list[float]:
    """The numbers of a list, each once."""
    words = [word.strip() for word in text.split(",")]
    if wrong := [word for word in words if not _NUMBER.fullmatch(word)]:
        raise UsageError(f"{option} has '{wrong[0]}' in it: give {form}")
    numbers = [float(word) for word in words]
    if twice := [number for number in numbers if numbers.count(number) > 1]:
        raise UsageError(f"{option} has {twice[0]:g} twice: name each once")
    return numbers


def sweep_arms(listed: str | None, amounts: Sequence[Amount], seed: int) -> tuple[Arm, ...]:
    """The dense arm, then every arm at each amount: 'fastv-reroute 0.889'; raises UsageError.

    listed: --arms; without it every method under both actions. Two amounts that come to the same whole
    tokens stay two arms, each with answers of its own: a row says what was asked for, not what was inferred.
    """
    from routing.methods import METHODS

    names = ",".join(name for name in METHODS if name != DENSE) if listed is None else listed
    dense, columns = None, []
    for amount in amounts:
        options = ArmOptions(arms=names, ratio=amount.ratio, budget=amount.budget, seed=seed)
        dense, *routed = arms_of(options)
        columns.append([replace(arm, name=f"{arm.name} {amount.text}") for arm in routed])
    assert dense is not None, "there is at least one amount"
    return (dense, *(arm for arms in zip(*columns, strict=True) for arm in arms))


@dataclass(frozen=True)
class Reach:
    """Arms that can be asked, the dense one first, and why the others cannot, by name."""

    arms: tuple[Arm, ...]
    refused: dict[str, str]


def reach(arms: Iterable[Arm], targets: Sequence[Target]) -> Reach:
    """Which arms meet their amount on every one of these prompts.

    Raises ScheduleError for layers that the model or the method does not have: no amount would help.
    """
    able, refused = [], {}
    for arm in arms:
        try:
            for target in targets:
                arm.choice.build(target)
        except BudgetError as error:
            refused[arm.name] = str(error)
        else:
            able.append(arm)
    return Reach(tuple(able), refused)


@dataclass(frozen=True)
class Pair:
    """One method at one amount, pruned and rerouted; at least one of the two is there.

    place: the method, with decision layers where they were typed: 'fastv', 'fastv@3', 'fastv@3·3+5+8'.
    """

    place: str
    ratio: float | None
    budget: float | None
    prune: Arm | None
    reroute: Arm | None


def pairs_of(arms: Iterable[Arm]) -> tuple[Pair, ...]:
    """Every routed arm once, in the order of the first of each pair.

    A rerouted arm stands beside the pruned one with the same decision layers. Where there is none, it stands
    beside the pruned one whose first layer is its own: as many layers are dense in both.
    """
    routed = [arm for arm in arms if arm.method is not None]
    pruned = [arm for arm in routed if arm.action == "prune"]
    partner: dict[str, Arm] = {}  # of either, by name
    for depth in (None, 1):  # how many decision layers must be the same: all, then the first
        for arm in routed:
            if arm.action != "reroute" or arm.name in partner:
                continue
            free = (one for one in pruned if one.name not in partner)
            match = next((one for one in free if _kind(one.choice, depth) == _kind(arm.choice, depth)), None)
            if match is not None:
                partner |= {arm.name: match, match.name: arm}
    found = []
    for arm in routed:
        other = partner.get(arm.name)
        if arm.action == "prune":
            found.append(_pair(arm, other))
        elif other is None:
            found.append(_pair(None, arm))
    return tuple(found)


def _kind(choice: ScheduleChoice, depth: int | None) -> tuple[object, ...]:
    """All of a schedule but its action, with the first `depth` of its decision layers."""
    return choice.method, choice.ratio, choice.budget, choice.cuts and choice.cuts[:depth]


def _pair(prune: Arm | None, reroute: Arm | None) -> Pair:
    arm = prune or reroute
    assert arm is not None
    place = place_of(arm.choice)
    if prune is not None and reroute is not None and prune.choice.cuts != reroute.choice.cuts:
        place += f"·{place_of(reroute.choice).partition('@')[2]}"
    return Pair(place, arm.choice.ratio, arm.choice.budget, prune, reroute)
