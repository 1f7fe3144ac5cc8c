"""A sweep from beginning to end: which arms can be had, their answers, their costs, the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from reroute_cli.console.errors import Failure
from reroute_cli.data.items import (
    Item,
    spread,
)
from reroute_cli.measure.scores import (
    Score,
)
from reroute_cli.models.load import (
    Loaded,
)
from reroute_cli.models.shapes import Target
from reroute_cli.records.store import RecordFile
from reroute_cli.records.sweep import SweepReport
from reroute_cli.run.schedules import Arm
from reroute_cli.run.trial import (
    hold_trial,
    target_for,
)
from reroute_cli.studies import SILENT, StudyProgress
from reroute_cli.studies.benchmarks.benchmark import Questions
from reroute_cli.studies.profile import MeasurePlan
from reroute_cli.studies.sweep.arms import reach
from reroute_cli.studies.sweep.costs import CostJob, measure_costs
from reroute_cli.studies.sweep.report import Swept, make_sweep

_LOOKED_AT = 8  # items at most, in search of one that can be read


@dataclass(frozen=True)
class SweepRequest:
    """What a sweep is asked for.

    cost_items: how many items are measured, 0 leaves costs estimated. against: the cost that scores are held
    against, a name of METRICS. seed: noted in the report.
    """

    scores: tuple[Score, ...]
    max_new_tokens: int
    batch_size: int
    cost_items: int
    plan: MeasurePlan
    against: str
    seed: int


def sweep(
    loaded: Loaded,
    questions: Questions,
    arms: Sequence[Arm],
    request: SweepRequest,
    file: RecordFile,
    *,
    say: Callable[[str], None] = lambda _: None,
    progress: StudyProgress = SILENT,
) -> SweepReport:
    """Ask every question under every arm that the model reaches, measure what each costs, and compare.

    Args:
        loaded: the model.
        questions: with what is true of each.
        arms: the schedules, the dense arm first; see `arms_of`.
        request: lengths, sizes, scores.
        file: keeps answers and measured blocks; what it holds already is not asked again.
        say: gets one sentence on what is going to be done.
        progress: told what is going on, and of every answer.

    Raises:
        Failure: the model reaches no arm but the dense one.
    """
    if not isinstance(questions.items, Sequence):  # a stream: measured items are needed a second time
        items = tuple(questions.items)
        questions = replace(questions, items=items, count=len(items))
    assert isinstance(questions.items, Sequence)
    probes = _probes(loaded, questions.items, request.cost_items)
    found = reach(arms, [target for _, target in probes])
    if len(found.arms) == 1 and len(arms) > 1:
        raise Failure(f"the model can reach none of the arms: {next(iter(found.refused.values()))}")
    number, asked = questions.count or 0, len(found.arms)
    left = f"; {len(arms) - asked} more can't be reached" if len(arms) > asked else ""
    say(f"{number} questions under {asked} arms, {number * asked} answers{left}")
    measured = tuple(item for item, _ in probes[: request.cost_items])
    job = CostJob(loaded, found.arms, measured, request.plan, request.seed)
    progress.expect(number * asked + len(job.items) * job.steps)
    progress.tell("answering")
    trial = hold_trial(
        loaded,
        found.arms,
        questions.items,
        file,
        max_new_tokens=request.max_new_tokens,
        batch_size=request.batch_size,
        done=progress.done,
    )
    blocks = measure_costs(job, file, progress.tell, progress.done)
    progress.tell("comparing")
    swept = Swept(tuple(arms), found.refused, questions.source, request.scores, trial, blocks)
    return make_sweep(swept, request.plan, request.against, request.seed)


def _probes(loaded: Loaded, items: Sequence[Item], wanted: int) -> list[tuple[Item, Target]]:
    """The items that costs are measured on, spread evenly, with what a schedule for each must fit.

    An item that can't be read gives its place to the next one that can; one item at least is looked at.
    """
    found: list[tuple[Item, Target]] = []
    for start in spread(len(items), max(1, wanted)):
        near = islice(items, start, start + _LOOKED_AT)
        fresh = (item for item in near if item not in [taken for taken, _ in found])
        read = ((item, target_for(loaded, item)) for item in fresh)
        made = next(((item, target) for item, target in read if target is not None), None)
        if made is not None:
            found.append(made)
    return found
