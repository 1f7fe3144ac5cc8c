"""The record of two reports compared, `reroute.comparison/2`: what `compare` prints.

A row for every metric of every arm of the baseline, with its verdict where a gate looks at it. Does not know
how a verdict was reached.
"""

from __future__ import annotations

from enum import StrEnum
from fractions import Fraction
from typing import Literal

from pydantic import Field

from reroute_cli.records.base import Part

SCHEMA = "reroute.comparison/2"
Number = int | float

EACH, COUNT, PRESENCE = "each item", "count", "presence"  # what a row compares, where it is no statistic


class Verdict(StrEnum):
    """What a gate found. WIN: better by more than the limit. MISSING: the baseline has it, the report not."""

    OK = "ok"
    REGRESSION = "regression"
    WIN = "win"
    MISSING = "missing"
    NOT_GATED = "not gated"


class LargestChange(Part):
    """The item that changed most, relative to its baseline."""

    id: str
    baseline: Number
    current: Number


class ItemChanges(Part):
    """A comparison value by value. changed: values that differ at all; worse, better: beyond the limit."""

    total: int
    changed: int
    worse: int
    better: int
    largest: LargestChange | None


class Row(Part):
    """One number of the baseline beside the current one, in base units.

    arm: null for the whole run. stat: "each item" where values were compared one by one (then the numbers are
    their means), "count" for answers, "presence" for arms and items, else the statistic. limit: as written,
    null where nothing gates it. change: (current - baseline) / |baseline|, null where that is no number.
    reason: why a value is missing.
    """

    arm: str | None
    metric: str
    stat: str
    unit: str
    better: Literal["lower", "higher"]
    limit: str | None
    default: bool
    baseline: Number | None
    current: Number | None
    change: float | None
    items: ItemChanges | None
    verdict: Verdict
    reason: str | None = None

    @property
    def name(self) -> str:
        """'ttft.p50', or 'kv_end' where values were compared one by one."""
        return (
            self.metric if self.stat in ("each item", "count", "presence") else f"{self.metric}.{self.stat}"
        )


class ChangedAnswer(Part):
    """An answer that is not the baseline's."""

    arm: str
    item: str
    baseline: str
    current: str


class Difference(Part):
    """Software, hardware or a setting that is not the same in both reports; null is unknown."""

    name: str
    baseline: str | None
    current: str | None


class Side(Part):
    """One of the two reports. path: null for a run that was just measured and not yet written."""

    path: str | None
    created: str
    commit: str | None


class Comparison(Part):
    """Two reports compared. passed: no regression, nothing missing, and with `strict` no win either.

    notes: generation settings that differ, and what a reader may take to be gated and is not. accept: the
    command that makes CURRENT the baseline.
    """

    schema_: Literal["reroute.comparison/2"] = Field(default="reroute.comparison/2", alias="schema")
    passed: bool
    strict: bool
    baseline: Side
    current: Side
    same_machine: bool
    rows: list[Row]
    answers: list[ChangedAnswer]
    environment: list[Difference]
    notes: list[str]
    accept: str | None = None

    @property
    def failed(self) -> list[Row]:
        """The rows that fail the comparison, in the table's order."""
        bad = {Verdict.REGRESSION, Verdict.MISSING} | ({Verdict.WIN} if self.strict else set())
        return [row for row in self.rows if row.verdict in bad]


def relative_change(before: Number | None, after: Number | None) -> float | None:
    """(after - before) / |before|; None where that is no number."""
    if before is None or after is None:
        return None
    if before == after:
        return 0.0
    if not before:
        return None
    try:
        return float((Fraction(after) - Fraction(before)) / abs(Fraction(before)))
    except OverflowError:
        return None
