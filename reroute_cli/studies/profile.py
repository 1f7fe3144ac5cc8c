"""What schedules cost beside the dense model: every pass over every item and arm, measured in one run.

A pass measures one kind of thing and goes item by item, arm by arm (A B A B), the dense arm first; the arms
do equal work: the same prompts, the same warm-up, the same forced length. While the clock matters Python's
garbage collector runs between answers, never inside one.
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from reroute_cli.data.items import Item, told
from reroute_cli.data.prompts import prompt_of
from reroute_cli.measure import passes
from reroute_cli.measure.warmup import MOST, warm_up
from reroute_cli.run.batch import collate
from reroute_cli.run.prompts import PreparedPrompt, count_visual, prepared
from reroute_cli.studies import SILENT, StudyProgress, profile_report

if TYPE_CHECKING:
    from reroute_cli.console.study_options import MeasureOptions
    from reroute_cli.data.images import Picture
    from reroute_cli.data.prompts import Prompt
    from reroute_cli.measure.flops import Flops
    from reroute_cli.measure.memory import KvUse
    from reroute_cli.models.load import Loaded
    from reroute_cli.records.report import Report
    from reroute_cli.run.schedules import Arm

_PASSES = 3  # answers, FLOPs, memory: once each
_SHARED = "requests that go together have one peak between them: measure at --batch-size 1"
_NO_PEAKS = passes.MemoryPass(
    dict.fromkeys(passes.PEAKS), None, dict.fromkeys((*passes.PEAKS, "energy"), _SHARED), None
)

Found = TypeVar("Found")
PerItemArm = list[list[Found]]  # [item][arm]


@dataclass(frozen=True)
class MeasurePlan:
    """How long and how often a run measures.

    new_tokens: of every measured answer. warmup, rounds: over all items and arms, untimed and timed; with
    until_steady the warm-up ends before where its last rounds agree. batch_size: requests that are timed
    together, at most. slo: the most seconds that a request may take, see `Times.meets`.
    """

    new_tokens: int
    warmup: int
    rounds: int
    until_steady: bool = False
    batch_size: int = 1
    slo: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, options: MeasureOptions) -> MeasurePlan:
        """What was typed."""
        return cls(
            new_tokens=options.max_new_tokens,
            warmup=MOST if options.warmup is None else options.warmup,
            rounds=options.repeat,
            until_steady=options.warmup is None,
            batch_size=options.batch_size,
            slo=options.slo or {},
        )

    def jobs(self, items: int, arms: int, together: int | None = None) -> int:
        """How many answers a run comes to at most, for a progress bar. together: passes of a timed round."""
        timed = items if together is None else together
        return arms * (items * _PASSES + timed * (self.warmup + self.rounds))


@dataclass(frozen=True)
class Task:
    """One item, ready to be measured: for each arm its prompt on the host, with its schedule.

    digest: SHA-256 over the images' bytes and the question, or all turns.
    """

    item: Item
    digest: str
    prompts: tuple[PreparedPrompt, ...]

    @property
    def prompt(self) -> Prompt:
        """The prompt of the images as they are, which all arms share that do not make them smaller."""
        return self.prompts[0].prompt

    @property
    def visual(self) -> int:
        """Visual tokens of the images as they are."""
        return self.prompts[0].visual

    def preprocess(self, loaded: Loaded, arms: Sequence[Arm]) -> list[float]:
        """Seconds to make each arm's prompt anew from the opened images; opening them is not timed."""
        images, make = [image.open() for image in self.item.images], maker(loaded, self.item)
        whole = make(images)
        return [
            whole.seconds
            if one.shrunk is None
            else prepared(loaded, arm.choice, images, make, whole, one.max_new_tokens).prompt.seconds
            for arm, one in zip(arms, self.prompts, strict=True)
        ]


def maker(loaded: Loaded, item: Item) -> Callable[[Sequence[Picture]], Prompt]:
    """What makes the item's prompt of its images, or of others in their place."""
    return partial(prompt_of, loaded.processor, question=item.question, turns=item.turns)


@dataclass(frozen=True)
class Work:
    """Everything that a run measures: each task under each arm, the dense arm first."""

    loaded: Loaded
    arms: tuple[Arm, ...]
    tasks: tuple[Task, ...]

    def together(self, size: int) -> list[tuple[int, ...]]:
        """The places of the tasks of each pass: as many as go together, those of one kind under every arm."""
        alike: dict[Hashable, list[int]] = {}
        for place, task in enumerate(self.tasks):
            alike.setdefault(tuple(one.kind for one in task.prompts) if size > 1 else place, []).append(place)
        return [tuple(one[at : at + size]) for one in alike.values() for at in range(0, len(one), size)]


@dataclass(frozen=True)
class Caches:
    """The KV cache of one item under one arm: after the prefill, and after the last token."""

    prefill: KvUse
    end: KvUse


@dataclass(frozen=True)
class Measurements:
    """All that was measured, of each item under each arm. preprocess, rounds: seconds and times by round.

    together: the items of each pass; rounds[round][pass][arm]. warm: seconds of every warm-up round under
    each arm. flops: None where the counter can't see the attention.
    """

    together: list[tuple[int, ...]]
    answers: PerItemArm[passes.TimedPass]
    warm: list[list[float]]
    preprocess: list[PerItemArm[float]]
    rounds: list[PerItemArm[passes.Times]]
    flops: PerItemArm[Flops | None]
    caches: PerItemArm[Caches]
    memory: PerItemArm[passes.MemoryPass]


def profile(
    loaded: Loaded,
    items: Sequence[Item],
    arms: Sequence[Arm],
    plan: MeasurePlan,
    *,
    seed: int = 0,
    progress: StudyProgress = SILENT,
) -> Report:
    """Measure every item under every arm and report on it.

    Args:
        loaded: the model.
        items: images with their questions.
        arms: the schedules, the dense arm first; see `arms_of`.
        plan: lengths and rounds.
        seed: noted in the report, as the seed of dummy weights and random schedules.
        progress: told what is going on, and of every answer.

    Raises:
        CliError: an item or an arm that this model can't take, before anything is measured.
    """
    work = prepare(loaded, items, tuple(arms), plan.new_tokens)
    progress.expect(plan.jobs(len(items), len(arms), len(work.together(plan.batch_size))))
    return profile_report.make_report(work, plan, measure(work, plan, progress.tell, progress.done), seed)


def prepare(loaded: Loaded, items: Sequence[Item], arms: tuple[Arm, ...], new_tokens: int) -> Work:
    """Make every prompt and schedule before the long part; raises CliError that names the item at fault."""
    tasks = []
    for item in items:
        with told(item):
            images, make = [image.open() for image in item.images], maker(loaded, item)
            prompt = make(images)
            passes.check_context(loaded, prompt, new_tokens)
            count_visual(loaded, prompt)
        prompts = tuple(prepared(loaded, arm.choice, images, make, prompt, new_tokens) for arm in arms)
        turns = [[turn.message() for turn in item.turns]] if item.turns else []
        asked = json.dumps([[image.digest for image in images], item.question, *turns])
        digest = hashlib.sha256(asked.encode()).hexdigest()
        tasks.append(Task(item, digest, prompts))
    return Work(loaded, arms, tuple(tasks))


def measure(
    work: Work, plan: MeasurePlan, tell: Callable[[str], None], done: Callable[[], None]
) -> Measurements:
    """Every pass, one kind after the other: answers, warm-up and timed rounds, FLOPs, memory.

    Requests that are timed together are still taken one by one for answers, FLOPs and the cache, which are
    those of a request alone; peaks of memory are then no request's.

    Args:
        work: what is measured.
        plan: lengths and rounds; warm-up rounds differ from timed ones in nothing but being kept.
        tell: told what is going on now.
        done: called after every answer.
    """
    length = plan.new_tokens

    def forced(job: passes.Job) -> passes.Times:
        gc.collect()  # right before, so that the garbage of the answer before is gone
        return passes.forced_pass(job, length)

    def memory(job: passes.Job) -> tuple[passes.MemoryPass, Caches]:
        peaks = passes.memory_pass(job, length) if plan.batch_size == 1 else _NO_PEAKS
        return peaks, Caches(passes.cache_pass(job, 1), passes.cache_pass(job, length))

    def one_round() -> tuple[PerItemArm[float], PerItemArm[passes.Times]]:
        seconds = [task.preprocess(work.loaded, work.arms) for task in work.tasks]
        return seconds, _each(work, together, forced, done)

    def seconds_of_round() -> list[float]:
        return [sum(times.e2e for times in column) for column in zip(*one_round()[1], strict=True)]

    alone, together = work.together(1), work.together(plan.batch_size)
    tell("answers")
    answers = _each(work, alone, lambda job: passes.timed_pass(job, length), done)
    preprocess, rounds = [], []
    with calm_collector():
        warm = warm_up(seconds_of_round, plan.warmup, until_steady=plan.until_steady, tell=tell)
        for _ in range((plan.warmup - len(warm)) * len(together) * len(work.arms)):
            done()
        for number in range(plan.rounds):
            tell(f"round {number + 1} of {plan.rounds}")
            seconds, times = one_round()
            preprocess.append(seconds)
            rounds.append(times)
    tell("FLOPs")
    counted = work.loaded.attention in passes.COUNTED
    flops = _each(work, alone, lambda job: passes.count_flops(job, length) if counted else None, done)
    tell("memory")
    held = _each(work, alone, memory, done)
    return Measurements(
        together,
        answers,
        warm,
        preprocess,
        rounds,
        flops,
        caches=[[caches for _, caches in row] for row in held],
        memory=[[peaks for peaks, _ in row] for row in held],
    )


def _each(
    work: Work,
    together: Sequence[Sequence[int]],
    measure_one: Callable[[passes.Job], Found],
    done: Callable[[], None],
) -> PerItemArm[Found]:
    """One pass for each group of items in `together`, group by group, arm by arm.

    A group's inputs go to the device when its turn comes, outside of any clock, once for all arms in a row
    that share them: the device never holds those of others, which would count as memory of this one.
    """
    found: PerItemArm[Found] = []
    for places in together:
        row: list[Found] = []
        held, inputs = list[int](), dict[str, Any]()
        for column in range(len(work.arms)):
            prompts = [work.tasks[place].prompts[column] for place in places]
            if (same := [id(one.prompt) for one in prompts]) != held:
                made = [one.prompt.inputs for one in prompts]
                whole = collate(made, passes.pad_token(work.loaded)) if len(made) > 1 else made[0]
                held, inputs = same, passes.on_device(whole, work.loaded.model)
            row.append(measure_one(passes.Job(work.loaded, inputs, prompts[0].schedule)))
            done()
        found.append(row)
    return found


@contextmanager
def calm_collector() -> Iterator[None]:
    """No automatic garbage collection, and collections by hand that skip what was there before."""
    running = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if running:
            gc.enable()
