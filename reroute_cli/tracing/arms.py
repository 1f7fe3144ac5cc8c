"""Which schedules a trace sets beside the dense model, from what was typed.

Knows options; no model and no picture.
"""

from __future__ import annotations

from dataclasses import replace

from reroute_cli.arms import Arm, ArmOptions, arms_of, place_of
from reroute_cli.console.errors import UsageError
from reroute_cli.schedules import DENSE, ScheduleChoice

_HOW = "add --method pdrop --ratio 0.8, or a profile with -p"


def traced_arms(choice: ScheduleChoice, *, versus: bool) -> tuple[Arm, ...]:
    """The dense arm and the one asked for, or, under --versus, its method pruned and rerouted.

    Raises UsageError where there is nothing to trace.
    """
    if choice.profile is None and choice.method in (None, DENSE):
        raise UsageError(f"trace shows what a schedule does to the visual tokens: {_HOW}")
    if versus:
        return _both(choice)
    typed = ArmOptions(
        choice.method,
        choice.action,
        choice.ratio,
        choice.budget,
        choice.profile,
        None,
        choice.seed,
        choice.cuts,
    )
    return arms_of(typed)


def _both(choice: ScheduleChoice) -> tuple[Arm, ...]:
    if choice.profile is not None:
        raise UsageError(
            "--versus prunes and reroutes one method at one budget: give --method, not --profile"
        )
    if choice.action is not None:
        raise UsageError("--versus shows both actions: drop --action")
    pair = [
        Arm(f"{place_of(choice)}-{action}", replace(choice, action=action)) for action in ("prune", "reroute")
    ]
    return (Arm("dense", ScheduleChoice(seed=choice.seed)), *pair)
