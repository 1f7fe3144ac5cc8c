"""The arms of a sweep: every listed schedule at every amount, and which of them a model can reach.

Knows what can be typed and the solvers; no torch, no measurements.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from reroute_cli.arms import Arm, ArmOptions, arms_of
from reroute_cli.console.errors import UsageError
from reroute_cli.schedules import DENSE, Target
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
        found = sorted(
            _numbers("--budgets", budgets, "tokens per decoder layer, like 85,57,28"), reverse=True
        )
        return tuple(Amount(budget=value) for value in found)
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
    grid = [_at(_every_method() if listed is None else listed, amount, seed) for amount in amounts]
    routed = [arm for arms in zip(*(arms[1:] for arms in grid), strict=True) for arm in arms]
    return (grid[0][0], *routed)


def _at(listed: str, amount: Amount, seed: int) -> list[Arm]:
    """The dense arm and the listed ones at one amount."""
    options = ArmOptions(arms=listed, ratio=amount.ratio, budget=amount.budget, seed=seed)
    dense, *routed = arms_of(options)
    return [dense, *(replace(arm, name=f"{arm.name} {amount.text}") for arm in routed)]


def _every_method() -> str:
    from routing.methods import METHODS

    return ",".join(name for name in METHODS if name != DENSE)


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
