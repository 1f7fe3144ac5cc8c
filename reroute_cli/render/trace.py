"""The numbers of a trace beside its picture: an arm a block, a stage a line.

Knows records; writes nowhere (output.py does).
"""

from __future__ import annotations

from reroute_cli import units
from reroute_cli.records.trace import TraceArm, TraceRecord
from reroute_cli.render.draw import STRONG, Page, plain, table

_HEADERS = ("arm", "layer", "kept", "re-entered", "recall", "never used", "tokens/layer", "answer")


def trace_card(record: TraceRecord) -> Page:
    """A table of stages, and what recall is of."""
    rows = [row for arm in record.arms for row in _rows(record, arm)]
    return [
        plain(""),
        table(_HEADERS, rows, right=(1, 2, 3, 4, 5, 6)),
        plain(""),
        plain(_recall_of(record), STRONG),
    ]


Row = tuple[str, ...]


def _rows(record: TraceRecord, arm: TraceArm) -> list[Row]:
    used = str(arm.never_used) if arm.stages else "–"
    average, kept = units.tokens(arm.average_visual), f"{record.visual} of {record.visual}"
    if not arm.stages:
        return [(arm.name, "", kept, "–", "–", used, average, arm.answer)]
    found = []
    for index, stage in enumerate(arm.stages):
        recall = "–" if stage.recall is None else f"{stage.recall:.0%}"
        own = (arm.name, used, average, arm.answer) if index == 0 else ("", "", "", "")
        layer = "vision" if stage.where == "vision" else str(stage.layer)
        found.append(
            (own[0], layer, f"{stage.kept} of {record.visual}", str(stage.reentered), recall, *own[1:])
        )
    return found


def _recall_of(record: TraceRecord) -> str:
    """What the recall column is a share of."""
    target = record.target
    if target.tokens is None:
        return f"no recall: {target.reasons['tokens']}"
    source = "the given box" if target.source == "given" else "the box of the dense answer"
    return f"recall: kept share of the {len(target.tokens)} visual tokens centred in {source}"
