"""Which arms of a sweep a model reaches.

Knows schedules; no torch, no measurements.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reroute_cli.models.shapes import Target
from reroute_cli.run.schedules import Arm
from routing.errors import BudgetError


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
