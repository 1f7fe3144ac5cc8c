"""What an evaluation under lmms-eval cost: sums over the answers of each task, and the record of them.

Knows answers, schedules and the record's parts; not lmms-eval.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from reroute_cli.integrations.lmms_eval.requests import ChatAnswer
from reroute_cli.records.base import EnvironmentPart, GenerationPart, ModelPart
from reroute_cli.records.batch import AnswersPart, AskedSchedule, LmmsCosts, TaskPart, VisualPart
from reroute_cli.run.schedules import ScheduleChoice
from routing.methods import DENSE

if TYPE_CHECKING:
    from reroute_cli.integrations.lmms_eval.requests import ChatAnswer
    from reroute_cli.records.base import EnvironmentPart, GenerationPart, ModelPart
    from reroute_cli.run.schedules import ScheduleChoice

NOTHING = "nothing was answered"
NO_PICTURES = "no answered request has an image"


@dataclass
class TaskSums:
    """Sums over the answers of one task: `add` each. visual, average: over those with images."""

    requests: int = 0
    failed: int = 0
    first_error: str = ""
    pictured: int = 0
    escaped: int = 0
    shortened: int = 0
    prompt: int = 0
    visual: int = 0
    average: float = 0.0
    new: int = 0
    kv: int = 0
    dense_kv: int = 0
    seconds: float = 0.0

    @property
    def answered(self) -> int:
        """Requests that have an answer."""
        return self.requests - self.failed

    def add(self, answer: ChatAnswer) -> None:
        """One more request and what it got."""
        self.requests += 1
        self.failed += bool(answer.error)
        self.first_error = self.first_error or answer.error
        self.pictured += answer.visual > 0
        for name in _SUMMED:
            setattr(self, name, getattr(self, name) + getattr(answer, name))

    def __add__(self, other: TaskSums) -> TaskSums:
        values = {name: getattr(self, name) + getattr(other, name) for name in _NAMES - {"first_error"}}
        return TaskSums(first_error=self.first_error or other.first_error, **values)


_NAMES = {field.name for field in fields(TaskSums)}
_SUMMED = _NAMES - {"requests", "failed", "first_error", "pictured"}


def merged(ranks: Iterable[Mapping[str, TaskSums]]) -> dict[str, TaskSums]:
    """The sums of every process as one."""
    found: dict[str, TaskSums] = {}
    for sums in ranks:
        for task, part in sums.items():
            found[task] = found.get(task, TaskSums()) + part
    return found


def costs_of(
    sums: Mapping[str, TaskSums],
    model: ModelPart,
    choice: ScheduleChoice,
    batch_size: int,
    generation: GenerationPart | None = None,
    environment: EnvironmentPart | None = None,
) -> LmmsCosts:
    """The record of a run: what an evaluation under lmms-eval cost, task by task."""
    routed = choice.profile is None and choice.method not in (None, DENSE)
    asked = AskedSchedule(
        method=None if choice.profile else choice.method or DENSE,
        action=str(choice.action or "prune") if routed else None,
        ratio=choice.ratio,
        budget=choice.budget,
        profile=choice.profile,
        decision_layers=None if choice.layers is None else list(choice.layers),
        seed=choice.seed,
    )
    return LmmsCosts(
        model=model,
        schedule=asked,
        batch_size=batch_size,
        generation=generation,
        environment=environment,
        tasks={task: _task(part) for task, part in sums.items()},
        total=_task(sum(sums.values(), TaskSums())),
    )


def _task(sums: TaskSums) -> TaskPart:
    visual, means = None, None
    if sums.pictured:
        visual = VisualPart(
            answers=sums.pictured,
            visual_tokens=sums.visual / sums.pictured,
            visual_tokens_per_layer=sums.average / sums.pictured,
            achieved_ratio=1 - sums.average / sums.visual,
        )
    if sums.answered:
        means = AnswersPart(
            prompt_tokens=sums.prompt / sums.answered,
            new_tokens=sums.new / sums.answered,
            visual=visual,
            kv_end_bytes=sums.kv / sums.answered,
            dense_kv_end_bytes=sums.dense_kv / sums.answered,
            kv_end_ratio=sums.kv / sums.dense_kv,
            seconds=sums.seconds / sums.answered,
            reasons={} if visual else {"visual": NO_PICTURES},
        )
    return TaskPart(
        requests=sums.requests,
        answered=sums.answered,
        failed=sums.failed,
        escaped=sums.escaped,
        shortened=sums.shortened,
        first_error=sums.first_error or None,
        means=means,
        reasons={} if means else {"means": NOTHING},
    )
