"""A sweep from beginning to end: which arms can be had, their answers, their costs, the report.

Knows the order of these things; none of their insides, and not the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from reroute_cli.arms import Arm
from reroute_cli.batch_inputs import BatchItem
from reroute_cli.benchmarks.benchmark import Questions
from reroute_cli.console.errors import Failure
from reroute_cli.console.output import Progress
from reroute_cli.evaluation.feasible import target_for
from reroute_cli.evaluation.ready import Ready
from reroute_cli.evaluation.score import Score
from reroute_cli.evaluation.trial import hold_trial
from reroute_cli.inputs import spread
from reroute_cli.models import Loaded
from reroute_cli.profiling.plan import Plan
from reroute_cli.records.sweep import SweepReport
from reroute_cli.schedules import Target
from reroute_cli.sweeping.arms import Reach, reach
from reroute_cli.sweeping.costs import CostJob, measure_costs
from reroute_cli.sweeping.report import Swept, make_sweep

_LOOKED_AT = 8  # items at most, in search of one that can be read


@dataclass(frozen=True)
class Wish:
    """What is asked of a sweep.

    cost_items: how many items are measured. against: the cost of the front, a metric.
    """

    scores: tuple[Score, ...]
    max_new_tokens: int
    batch_size: int
    cost_items: int
    plan: Plan
    against: str
    seed: int


def run_sweep(ready: Ready, arms: Sequence[Arm], wish: Wish, say: Callable[[str], None]) -> SweepReport:
    """Ask, measure, report. say: gets one sentence on what is going to be done."""
    questions = ready.questions
    if not isinstance(questions.items, Sequence):  # a stream: measured items are needed a second time
        items = tuple(questions.items)
        questions = replace(questions, items=items, count=len(items))
    assert isinstance(questions.items, Sequence)
    probes = _probes(ready.loaded, questions.items, wish.cost_items)
    found = reach(arms, [target for _, target in probes])
    _check(found, arms)
    say(_plan_words(questions, found, arms))
    measured = tuple(item for item, _ in probes[: wish.cost_items])
    job = CostJob(ready.loaded, found.arms, measured, wish.plan, wish.seed)
    _expect(ready.progress, questions, found, job)
    trial = hold_trial(
        ready.loaded,
        found.arms,
        questions.items,
        ready.file,
        max_new_tokens=wish.max_new_tokens,
        batch_size=wish.batch_size,
        done=ready.progress.done,
    )
    blocks = measure_costs(job, ready.file, ready.progress.tell, ready.progress.done)
    ready.progress.tell("comparing")
    swept = Swept(
        tuple(arms),
        found,
        questions.source,
        wish.scores,
        trial,
        job,
        blocks,
        wish.against,
        wish.seed,
    )
    return make_sweep(swept)


def _probes(loaded: Loaded, items: Sequence[BatchItem], wanted: int) -> list[tuple[BatchItem, Target]]:
    """The items that costs are measured on, spread evenly, with what a schedule for each must fit.

    An item that can't be read gives its place to the next one that can; one item at least is looked at.
    """
    found: list[tuple[BatchItem, Target]] = []
    for start in spread(len(items), max(1, wanted)):
        near = islice(items, start, start + _LOOKED_AT)
        fresh = (item for item in near if item not in [taken for taken, _ in found])
        read = ((item, target_for(loaded, item)) for item in fresh)
        made = next(((item, target) for item, target in read if target is not None), None)
        if made is not None:
            found.append(made)
    return found


def _check(found: Reach, arms: Sequence[Arm]) -> None:
    """Raise Failure where no arm but the dense one is left."""
    if len(found.arms) == 1 and len(arms) > 1:
        raise Failure(f"the model can reach none of the arms: {next(iter(found.refused.values()))}")


def _plan_words(questions: Questions, found: Reach, arms: Sequence[Arm]) -> str:
    asked, number = len(found.arms), questions.count or 0
    left = f"; {len(arms) - asked} more can't be reached" if len(arms) > asked else ""
    return f"{number} questions under {asked} arms, {number * asked} answers{left}"


def _expect(progress: Progress, questions: Questions, found: Reach, job: CostJob) -> None:
    progress.expect((questions.count or 0) * len(found.arms) + len(job.items) * job.steps)
    progress.tell("answering")
