"""The arms of a measured run: the dense model first, then each schedule that is measured beside it.

Knows what can be typed (--method and its like, --arms, -p); not models, pictures or measurements.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from reroute_cli.console.errors import UsageError
from reroute_cli.metrics import DENSE_ARM
from reroute_cli.options import ActionName
from reroute_cli.schedules import DENSE, ScheduleChoice, read_cuts

_ACTIONS = tuple(action.value for action in ActionName)
_FORM = f"METHOD[@LAYER+LAYER...][:ACTION] (ACTION is {' or '.join(_ACTIONS)}), separated by commas"


@dataclass(frozen=True)
class ArmOptions:
    """The schedule options as typed. arms: the list given with --arms."""

    method: str | None = None
    action: str | None = None
    ratio: float | None = None
    budget: float | None = None
    profile: str | None = None
    arms: str | None = None
    seed: int = 0
    cuts: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Arm:
    """One schedule over all items, under the name that reports, gates and tables know it by."""

    name: str
    choice: ScheduleChoice

    @property
    def method(self) -> str | None:
        """The method by name; None for the dense arm and for a profile."""
        return None if self.choice.method == DENSE else self.choice.method

    @property
    def action(self) -> str | None:
        """prune or reroute, as typed or by default; None for the dense arm and for a profile."""
        return (self.choice.action or _ACTIONS[0]) if self.method else None


def arms_of(typed: ArmOptions) -> tuple[Arm, ...]:
    """The dense arm and whatever is asked for beside it; raises UsageError or ProfileError."""
    routed = _single(typed) if typed.arms is None else _listed(typed, typed.arms)
    arms = (Arm(DENSE_ARM, ScheduleChoice(seed=typed.seed)), *routed)
    counts = Counter(arm.name for arm in arms)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise UsageError(
            f"two arms would be called '{twice[0]}': name each schedule once, and none '{DENSE_ARM}'"
        )
    return arms


def _single(typed: ArmOptions) -> list[Arm]:
    """What --method or -p asks for; nothing where neither is given."""
    choice = ScheduleChoice(
        typed.method, typed.action, typed.ratio, typed.budget, typed.profile, typed.seed, typed.cuts
    )
    if choice.profile is None and choice.method in (None, DENSE):
        return []
    return [Arm(_name(choice), choice)]


def _listed(typed: ArmOptions, text: str) -> list[Arm]:
    """'nuwa,fastv@3+5:reroute' -> nuwa-prune, nuwa-reroute and fastv@3+5-reroute, in the order typed."""
    also = {
        "--method": typed.method,
        "--action": typed.action,
        "--profile": typed.profile,
        "--cuts": typed.cuts,
    }
    if given := [name for name, value in also.items() if value is not None]:
        raise UsageError(f"--arms names the schedules itself: drop {given[0]}")
    if typed.ratio is None and typed.budget is None:
        raise UsageError("--arms needs an amount that all arms share: add --ratio 0.667 or --budget TOKENS")
    return [arm for word in text.split(",") for arm in _of_word(word.strip(), typed)]


def _of_word(word: str, typed: ArmOptions) -> list[Arm]:
    """METHOD (both actions) or METHOD:ACTION, perhaps with its decision layers: METHOD@3+5+8:ACTION."""
    named, colon, action = (part.strip() for part in word.partition(":"))
    method, at, layers = (part.strip() for part in named.partition("@"))
    if not method or method == DENSE or (colon and action not in _ACTIONS):
        dense = "; the dense arm is always there" if method == DENSE else ""
        raise UsageError(f"--arms has '{word}' in it{dense}: give {_FORM}")
    chosen = [action] if action else list(_ACTIONS)
    cuts = read_cuts(layers if at else None, name=f"--arms has '{word}' in it:", between="+")
    choices = [
        ScheduleChoice(method, one, typed.ratio, typed.budget, seed=typed.seed, cuts=cuts) for one in chosen
    ]
    return [Arm(_name(choice), choice) for choice in choices]


def place_of(choice: ScheduleChoice) -> str:
    """The method, with its decision layers where they were typed: 'fastv' or 'fastv@3+5+8'."""
    cuts = "" if choice.cuts is None else "@" + "+".join(map(str, choice.cuts))
    return f"{choice.method}{cuts}"


def _name(choice: ScheduleChoice) -> str:
    if choice.profile is None:
        return f"{place_of(choice)}-{choice.action or _ACTIONS[0]}"
    import profiles

    return profiles.load(choice.profile).name
