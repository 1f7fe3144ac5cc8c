"""The numbers of a trace beside its picture: a line an arm, then a line a stage.

Knows records; writes nowhere (output.py does).
"""

from __future__ import annotations

from reroute_cli.console import units
from reroute_cli.records.trace import TraceArm, TraceRecord
from reroute_cli.render.draw import STRONG, Page, plain, table
from reroute_cli.reporting.generation import not_neutral

Row = tuple[str, ...]


def trace_card(record: TraceRecord) -> Page:
    """A table of arms, one of their stages, and what recall is of."""
    arms = [_arm(record, arm) for arm in record.arms]
    stages = [row for arm in record.arms for row in _stages(record, arm)]
    return [
        plain(""),
        table(("arm", "tokens/layer", "never used", "answer"), arms, right=(1, 2)),
        plain(""),
        table(("arm", "layer", "kept", "re-entered", "recall"), stages, right=(1, 2, 3, 4)),
        plain(""),
        plain(_recall_of(record), STRONG),
        *(plain(text, "yellow") for text in not_neutral(record.generation)),
    ]


def _arm(record: TraceRecord, arm: TraceArm) -> Row:
    used = str(arm.never_used) if arm.stages else "–"
    return (arm.name, f"{units.tokens(arm.average_visual)} of {record.visual}", used, arm.answer)


def _stages(record: TraceRecord, arm: TraceArm) -> list[Row]:
    found: list[Row] = []
    for index, stage in enumerate(arm.stages):
        name = arm.name if index == 0 else ""
        layer = "vision" if stage.where == "vision" else str(stage.layer)
        recall = "–" if stage.recall is None else f"{stage.recall:.0%}"
        found.append((name, layer, f"{stage.kept} of {record.visual}", str(stage.reentered), recall))
    return found


def _recall_of(record: TraceRecord) -> str:
    """What the recall column is a share of."""
    target = record.target
    if target.tokens is None:
        return f"no recall: {target.reasons['tokens']}"
    source = "the given box" if target.source == "given" else "the box of the dense answer"
    return f"recall: kept share of the {len(target.tokens)} visual tokens centred in {source}"
