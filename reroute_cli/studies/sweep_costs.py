"""What each arm costs, measured block by block: one item under all arms, interleaved, as `profile` does it.

A block is kept as a record, so that a sweep that ends early measures none twice. What determines a block is
its key: model, arms, item, settings, and the machine with its software, since times travel to no other. Where
nothing is measured, costs are what the answers' records say, by arithmetic.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reroute_cli.measure.environment import describe_environment
from reroute_cli.records.metrics import METRICS, OF_ARMS, Kind
from reroute_cli.records.sweep import CostBlock, MetricPart
from reroute_cli.run.answer import settings_of
from reroute_cli.studies.profile import MeasurePlan, measure, prepare
from reroute_cli.studies.profile_report import make_report, ratios, series

if TYPE_CHECKING:
    from reroute_cli.data.items import Item
    from reroute_cli.models.load import Loaded
    from reroute_cli.records.report import Ratio, Report, Series
    from reroute_cli.records.store import RecordFile
    from reroute_cli.run.schedules import Arm
    from reroute_cli.run.trial import Trial

LEFT_OUT = ("agreement", "goodput", *(name for name, metric in METRICS.items() if metric.shared))
"""What a sweep does not report: scores against ground truth say more than agreement with the dense arm, and
it has no objectives."""
NOT_MEASURED = "nothing was measured: --cost-items 0"
_MACHINE = ("cpu", "gpus", "driver", "cuda", "python", "packages", "settings")
"""What of the environment a block's key has. Not the commit: a change of the code that leaves the work alone
leaves its cost alone."""


@dataclass(frozen=True)
class CostJob:
    """What is measured: these items under these arms, the dense one first. seed: of dummy weights."""

    loaded: Loaded
    arms: tuple[Arm, ...]
    items: tuple[Item, ...]
    plan: MeasurePlan
    seed: int

    @property
    def steps(self) -> int:
        """How many answers one block takes, for a progress bar."""
        return self.plan.jobs(1, len(self.arms))


@dataclass(frozen=True)
class ArmCosts:
    """One arm over all blocks. ratios: to the dense arm, from values of the same item and round."""

    metrics: Mapping[str, Series]
    ratios: Mapping[str, Ratio]
    unknown: Mapping[str, str]

    def parts(self) -> dict[str, MetricPart]:
        """Each metric as one number, medians of times and means of all others, with its ratio to dense."""
        found = {}
        for name, values in self.metrics.items():
            ratio = self.ratios.get(name)
            if name not in LEFT_OUT:
                found[name] = MetricPart(
                    unit=values.unit,
                    source=values.source,
                    value=values.p50 if METRICS[name].kind is Kind.TIMED else values.mean,
                    n=values.n,
                    ratio_to_dense=None if ratio is None else ratio.value,
                    low=None if ratio is None else ratio.low,
                    high=None if ratio is None else ratio.high,
                )
        return found

    def why_not(self) -> dict[str, str]:
        """Why the metrics that `parts` lacks are not known."""
        return {name: reason for name, reason in self.unknown.items() if name not in LEFT_OUT}


def measure_costs(
    job: CostJob, file: RecordFile, tell: Callable[[str], None], done: Callable[[], None]
) -> list[Report]:
    """A report of each item, measured now or in an earlier run on the same file.

    tell: told what is going on. done: called for every answer, also for those of an earlier run.
    """
    environment = describe_environment(job.loaded.proven)
    machine = {name: environment[name] for name in _MACHINE}
    new_tokens = job.plan.new_tokens
    settings = [[arm.name, settings_of(job.loaded, arm.choice, new_tokens)] for arm in job.arms]
    found = []
    for number, named in enumerate(job.items, start=1):
        item = named.read()
        first, *others = (image.digest() for image in item.images)
        parts: dict[str, Any] = {
            "cost": {"new_tokens": new_tokens, "warmup": job.plan.warmup, "rounds": job.plan.rounds},
            "picture": first,
            "question": item.question,
            "arms": settings,
            "device": job.loaded.device,
            "machine": machine,
        }
        if others or item.turns:
            parts |= {"others": others, "turns": [turn.message() for turn in item.turns]}
        key = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
        if file.is_done(key):
            for _ in range(job.steps):
                done()
        else:
            tell(f"costs, item {number} of {len(job.items)}")
            work = prepare(job.loaded, [item], job.arms, new_tokens)
            report = make_report(work, job.plan, measure(work, job.plan, lambda _: None, done), job.seed)
            file.append(CostBlock(id=item.id, key=key, report=report).as_dict())
        found.append(CostBlock.model_validate(file.get(key)).report)
    return found


def combined(blocks: Sequence[Report]) -> dict[str, ArmCosts]:
    """Every arm's metrics over all blocks, by the arm's name."""
    found: dict[str, ArmCosts] = {}
    for column, arm in enumerate(blocks[0].arms):
        parts = [block.arms[column] for block in blocks]
        unknown = {name: reason for part in parts for name, reason in part.unknown.items()}
        known = {
            name: series(name, [part.metrics[name].values[0] for part in parts], first.source)
            for name, first in parts[0].metrics.items()
            if name not in unknown
        }
        dense = found[blocks[0].dense.name].metrics if found else known
        found[arm.name] = ArmCosts(known, ratios(known, dense) if found else {}, unknown)
    return found


def estimated(trial: Trial) -> dict[str, ArmCosts]:
    """Every arm's visual tokens, prefill FLOPs and KV bytes at the end of its answers, by the arm's name.

    One value an arm: the mean over its answers, by arithmetic. An arm without answers has none. Times stay
    unknown: those of a batch are of its pass, and of the machine as it was then.
    """
    found: dict[str, ArmCosts] = {}
    for arm, tally in zip(trial.arms, trial.costs, strict=True):
        known = {}
        if tally.answered:
            means = tally.means()
            known["visual_tokens_per_layer"] = series(
                "visual_tokens_per_layer", [[means.visual_tokens_per_layer]], "counted"
            )
            known["kv_end"] = series("kv_end", [[means.kv_end_bytes]], means.kv_source)
            if means.prefill_flops is not None:
                known["prefill_flops"] = series("prefill_flops", [[means.prefill_flops]], means.flops_source)
        missing = [name for name in OF_ARMS if name not in known]
        dense = found[trial.arms[0].name].metrics if found else known
        unknown = dict.fromkeys(missing, NOT_MEASURED)
        found[arm.name] = ArmCosts(known, ratios(known, dense) if found else {}, unknown)
    return found
