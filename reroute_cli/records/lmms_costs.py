"""What an evaluation under lmms-eval cost, task by task, `reroute.lmms_costs/2`: no score without it.

Does not know how anything was counted.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reroute_cli.records.base import Part, RunHeader, Section, Source


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
