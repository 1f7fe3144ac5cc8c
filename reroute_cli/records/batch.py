"""What many answers took: of a batch, `reroute.batch/2`, and of lmms-eval's tasks, `reroute.lmms_costs/2`.

A batch's numbers cover the whole output file as far as it belongs to these items, records of earlier runs
included; `this_run` is the exception. Scores of tasks are written by lmms-eval itself. Does not know how
anything was measured.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reroute_cli.records.base import Part, RunHeader, Section, Source


class CountsPart(Part):
    """Items, and what became of them. items = answered + errors.

    resumed: of those answered, how many an earlier run had answered. skipped: files of the folder that are no
    images. halved: answers whose batch did not fit the device at first. reused_vision: answers some of whose
    images, or those of their pass, were encoded for an earlier pass.
    """

    items: int
    answered: int
    errors: int
    resumed: int
    skipped: int
    halved: int
    reused_vision: int = 0


class ChoicePart(Section):
    """What was asked for, of every item. settings: of the method, where they were given."""

    plain_nulls = frozenset({"profile", "ratio", "budget", "method"})

    method: str | None
    action: str | None
    ratio: float | None
    budget: float | None
    profile: str | None
    settings: dict[str, bool | int | float | str] = Field(default_factory=dict)
    batch_size: int
    max_new_tokens: int


class SharePart(Part):
    """A share of n items with Wilson's 95% confidence interval."""

    value: float
    low: float
    high: float
    n: int


class BoxesPart(Part):
    """Boxes against true ones, the first of each answer only, in pixels of the original image."""

    acc_at_05: SharePart
    mean_iou: float
    centre_in_box: SharePart


class AccuracyPart(Section):
    """Answers with a truth. words: equal but for case, spaces and punctuation around. boxes: where one is."""

    words: SharePart | None
    boxes: BoxesPart | None


class MeansPart(Section):
    """Means over the answers. total_flops: of a whole answer, vision to decode."""

    visual_tokens: float
    visual_tokens_per_layer: float
    prompt_tokens: float
    new_tokens: float
    total_flops: float | None
    prefill_flops: float | None
    scoring_flops: float | None
    dense_prefill_flops: float | None
    flops_source: Source
    kv_end_bytes: float
    dense_kv_end_bytes: float
    kv_source: Source


class SpreadPart(Part):
    """Median and 90th percentile, in seconds."""

    p50: float
    p90: float


class LatenciesPart(Section):
    """Of the answers' passes; preprocess of the item alone."""

    ttft_s: SpreadPart
    tpot_s: SpreadPart | None
    e2e_s: SpreadPart
    preprocess_s: SpreadPart


class ThroughputPart(Part):
    """Over the time of all passes: a pass of eight items counts once."""

    passes_s: float
    samples_per_s: float
    output_tokens_per_s: float


class ThisRunPart(Section):
    """This run alone, by the wall clock. waiting_s: the model stood still until an item was prepared.

    workers: processes with a model; 0 where a cluster had nothing to do. On a cluster wall_s begins before
    they and their models do, and waiting_s is the mean over workers, of the time between a worker's first
    items and its last.
    """

    answered: int
    workers: int = 1
    wall_s: float
    waiting_s: float
    samples_per_s: float | None


class BatchSummary(RunHeader):
    """What a batch came to; sections are null where nothing was answered.

    first_error: of the first item that failed, its id and its sentence; null where none failed.
    """

    plain_nulls = RunHeader.plain_nulls | {"first_error"}

    schema_: Literal["reroute.batch/2"] = Field(default="reroute.batch/2", alias="schema")
    counts: CountsPart
    choice: ChoicePart
    accuracy: AccuracyPart | None
    means: MeansPart | None
    latency: LatenciesPart | None
    throughput: ThroughputPart | None
    this_run: ThisRunPart
    first_error: str | None


class VisualPart(Part):
    """Visual tokens: means over the answers with images, of which there are `answers`."""

    answers: int
    visual_tokens: float
    visual_tokens_per_layer: float
    achieved_ratio: float
    source: Source = "counted"


class AnswersPart(Section):
    """Means over the answers. seconds: of passes, shared among their items."""

    prompt_tokens: float
    new_tokens: float
    visual: VisualPart | None
    kv_end_bytes: float
    dense_kv_end_bytes: float
    kv_end_ratio: float
    kv_source: Source = "estimated"
    seconds: float


class TaskPart(Section):
    """One task, or all of them. requests: asked of the model now; those that a response cache had are not.

    failed: have no answer, and were given to the task as an empty one; first_error: why the first has none.
    escaped: a control token of the model was in the question. shortened: the model's context had no room for
    an answer as long as the task allows.
    """

    plain_nulls = frozenset({"first_error"})

    requests: int
    answered: int
    failed: int
    escaped: int
    shortened: int
    first_error: str | None
    means: AnswersPart | None


class AskedSchedule(Part):
    """The schedule that was asked for, as it was typed; method null: the profile's."""

    method: str | None
    action: str | None
    ratio: float | None
    budget: float | None
    profile: str | None
    decision_layers: list[int] | None
    seed: int


class LmmsCosts(RunHeader):
    """What the answers to a run's tasks took. batch_size: as asked for.

    generation: its max_new_tokens are those of tasks that do not say.
    """

    schema_: Literal["reroute.lmms_costs/2"] = Field(default="reroute.lmms_costs/2", alias="schema")
    schedule: AskedSchedule
    batch_size: int
    tasks: dict[str, TaskPart]
    total: TaskPart
