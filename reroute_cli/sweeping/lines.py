"""The lines of a sweep's tables and plot: one method at one amount, pruned beside rerouted.

Knows reports; not how a line is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from reroute_cli.console.options import ActionName
from reroute_cli.records.sweep import SweepArm, SweepReport
from reroute_cli.schedules import Arm, ScheduleChoice
from reroute_cli.studies.sweep.arms import pairs_of


@dataclass(frozen=True)
class Line:
    """At least one of the two arms is there. amount: '0.889', or '64 tokens'."""

    place: str
    amount: str
    prune: SweepArm | None
    reroute: SweepArm | None


def lines_of(report: SweepReport) -> list[Line]:
    """Every routed arm once, refused ones too, in the report's order."""
    by_name = {arm.name: arm for arm in report.arms}
    found = []
    for pair in pairs_of(_arm(arm) for arm in report.arms[1:]):
        amount = f"{pair.budget:g} tokens" if pair.ratio is None else f"{pair.ratio:g}"
        both = [by_name[arm.name] if arm else None for arm in (pair.prune, pair.reroute)]
        found.append(Line(pair.place, amount, both[0], both[1]))
    return found


def _arm(part: SweepArm) -> Arm:
    """The arm that a part of a report is of."""
    layers = None if part.decision_layers is None else tuple(part.decision_layers)
    action = cast("ActionName | None", part.action)
    return Arm(part.name, ScheduleChoice(part.method, action, part.ratio, part.budget, layers))
