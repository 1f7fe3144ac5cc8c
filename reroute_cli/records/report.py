"""The report of one measured run, `reroute.report/2`: what `profile` writes and `compare` reads.

Several arms, the dense one first, over the same items; every metric of `METRICS` is either there with its raw
values or unknown with a reason. What decides whether two reports may be compared, workload and environment,
is in it. Does not know how anything was measured.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator

from reroute_cli.records.answer import ResizedPart, StagePart
from reroute_cli.records.base import Part, ReportHeader, Section, Source
from reroute_cli.records.metrics import DENSE_ARM, METRICS, Level

SCHEMA = "reroute.report/2"
TOO_OLD = "the release that wrote this report did not measure it"
Number = int | float
Percentile = Literal["p90", "p95", "p99"]
PERCENTILES: tuple[Percentile, ...] = get_args(Percentile)
_KNOWN = ("metrics", "unknown")


class Series(Section):
    """One metric of one arm. values: a list for each item, in workload order, with a value for each round.

    Metrics of passes have a list for each pass in place of an item, ITL with every gap of every round in it,
    and those of rounds one list. Base units (`unit` names it); the statistics are over all values; std is the
    sample's, null for one value. p90, p95, p99: of times and rates null below 10, 20, 100 values. outliers:
    of times and rates, how many values are more than 3.5 scaled MADs on the bad side of their list's median;
    they are among the values. Null for other metrics, and in older files.
    """

    plain_nulls: ClassVar[frozenset[str]] = frozenset({"outliers"})

    unit: str
    source: Source
    values: list[list[Number]] = Field(min_length=1)
    n: int = Field(ge=1)
    mean: float
    std: float | None
    min: Number
    max: Number
    p50: float
    p90: float | None
    p95: float | None
    p99: float | None
    outliers: int | None = None

    @model_validator(mode="after")
    def _counts_its_values(self) -> Self:
        if self.n != sum(len(values) for values in self.values):
            raise ValueError(f"n is {self.n}, but there are {sum(map(len, self.values))} values")
        return self


class Ratio(Section):
    """An arm's median over the dense arm's, measured in one run, with its bootstrap interval.

    For exact metrics it is the quotient of the sums and low = high = value. low, high: null, with the reason,
    where there are too few pairs of values for an interval.
    """

    value: float
    low: float | None
    high: float | None
    confidence: float = Field(gt=0, lt=1)


class Measured(Part):
    """Metrics of one level: each is in `metrics`, or in `unknown` with the reason."""

    metrics: dict[str, Series]
    unknown: dict[str, str] = Field(default_factory=dict)

    def _check_names(self, level: Level) -> None:
        expected = {name for name, metric in METRICS.items() if metric.level is level}
        if self.metrics.keys() & self.unknown.keys() or self.metrics.keys() | self.unknown.keys() != expected:
            given = sorted(self.metrics.keys() | self.unknown.keys())
            raise ValueError(f"each of {sorted(expected)} must be measured or unknown, once; given {given}")


class ProcessPart(Measured):
    """What belongs to the process and not to one arm."""

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        self._check_names(Level.RUN)
        return self


class CachePart(Part):
    """The KV cache of one item: stored tokens and bytes of each decoder layer.

    logical_tokens: the positions that the cache stands for. dense_bytes: what they take without reduction.
    """

    logical_tokens: int
    per_layer_tokens: list[int]
    per_layer_bytes: list[int]
    dense_bytes: int


class ArmItem(Part):
    """One item under one arm.

    answer: greedy, of its natural length. finish: "stop" when the model ended it, "length" when the limit
    did. agrees: it equals the dense arm's. schedule_digest: of the one made for this item's visual tokens.
    per_layer_visual_tokens: of each decoder layer. kv_cache_prefill, kv_cache_end: at the forced length.
    resized: of an arm that makes images smaller.
    """

    id: str
    answer: str
    finish: Literal["stop", "length"]
    agrees: bool
    schedule_digest: str
    achieved_ratio: float
    stages: list[StagePart]
    per_layer_visual_tokens: list[int]
    kv_cache_prefill: CachePart
    kv_cache_end: CachePart
    resized: ResizedPart | None = None


class ArmPart(Measured):
    """One schedule over all items. name: "dense", or "METHOD-ACTION", or the profile's name.

    ratio: the reduction ratio that was asked for, null under a profile and where a budget was asked for.
    ratios: this arm over the dense one, for the metrics where both are known and dense is not zero; empty for
    the dense arm, and without `preprocess`, which comes before any arm and which all of them share.
    percentile_ratios: of TTFT, ITL, TPOT and e2e, that of "p90", "p95" and "p99" where both arms know them.
    requests_met: how many requests of all rounds met every objective; null without objectives.
    """

    name: str
    method: str | None
    action: str | None
    profile: str | None
    ratio: float | None
    budget: float | None
    items: list[ArmItem] = Field(min_length=1)
    ratios: dict[str, Ratio]
    percentile_ratios: dict[str, dict[Percentile, Ratio]] = Field(default_factory=dict)
    requests_met: int | None = None

    @model_validator(mode="before")
    @classmethod
    def _lacks_later_metrics(cls, plain: Any) -> Any:
        """What an older release did not measure is unknown."""
        known, unknown = (plain.get(one, {}) if isinstance(plain, dict) else None for one in _KNOWN)
        if not isinstance(known, dict) or not isinstance(unknown, dict):
            return plain
        later = [name for name, metric in METRICS.items() if metric.later]
        lacking = {name: TOO_OLD for name in later if name not in known and name not in unknown}
        return {**plain, "unknown": unknown | lacking}

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        self._check_names(Level.ARM)
        return self


class ItemPart(Part):
    """One question about images. digest: SHA-256 over the images' bytes and the question."""

    id: str
    images: list[str]
    question: str
    digest: str
    visual_tokens: int
    prompt_tokens: int


class WorkloadPart(Part):
    """What was run: two reports may be compared when these, their models and their arms are equal.

    new_tokens: the forced length of every measured answer, and the limit of the natural ones. batch_size: how
    many requests were timed together, at most. passes: the items of each pass by their places in `items`; not
    there where each item was timed alone.
    """

    items: list[ItemPart] = Field(min_length=1)
    new_tokens: int
    batch_size: int
    seed: int
    passes: list[list[int]] = Field(default_factory=list)


class WarmupPart(Part):
    """How `--warmup auto` ended: agreed where the `last` rounds of every arm lay `within` this share.

    Of the fastest of them; else it ended after `most` rounds. seconds: of every round under each arm.
    """

    agreed: bool
    last: int
    within: float
    most: int
    seconds: list[list[float]]


class Protocol(Part):
    """How it was measured. Differences here forbid no comparison but that of goodput, under other objectives.

    warmup, rounds: passes over all items and arms before and while timing. warmup_auto: null where a number
    of them was asked for. nvml_period_s: between samples. slo: the objectives in seconds, each the most that
    a request may take; of itl the mean of its gaps.
    """

    warmup: int
    rounds: int
    nvml_period_s: float
    warmup_auto: WarmupPart | None = None
    slo: dict[str, float] = Field(default_factory=dict)


class Report(ReportHeader):
    """One run of `profile`. Where only generation differs reports are compared with a warning."""

    schema_: Literal["reroute.report/2"] = Field(default="reroute.report/2", alias="schema")
    workload: WorkloadPart
    protocol: Protocol
    process: ProcessPart
    arms: list[ArmPart] = Field(min_length=1)

    @model_validator(mode="after")
    def _arms_share_the_items(self) -> Self:
        names = [arm.name for arm in self.arms]
        if names[0] != DENSE_ARM or len(set(names)) != len(names):
            raise ValueError(f"the first arm is '{DENSE_ARM}' and names are unique; given {names}")
        ids, together = [item.id for item in self.workload.items], self.workload.passes
        if together and sorted(place for one in together for place in one) != list(range(len(ids))):
            raise ValueError(f"each of {len(ids)} items is in one pass; given {together}")
        lists = {"item": len(ids), "pass": len(together or ids), "round": 1}
        for arm in self.arms:
            if [item.id for item in arm.items] != ids:
                raise ValueError(f"the arm '{arm.name}' has other items than the workload")
            for name, series in arm.metrics.items():
                per = METRICS[name].per
                if len(series.values) != lists[per]:
                    raise ValueError(
                        f"{arm.name}: {name} has {len(series.values)} lists of values, not {lists[per]}, one "
                        f"for each {per}"
                    )
        return self

    @property
    def dense(self) -> ArmPart:
        """The arm that everything else is compared with."""
        return self.arms[0]
