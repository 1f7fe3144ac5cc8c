"""What each arm costs, measured block by block: one item under all arms, interleaved, as `profile` does it.

A block is kept as a record, so that a sweep that ends early measures none twice. What determines a block is
its key: model, arms, item, settings, and the machine with its software, since times travel to no other. Knows
measuring and record files; not answers, scores or tables.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from reroute_cli.arms import Arm
from reroute_cli.data.items import Item
from reroute_cli.environment import describe_environment
from reroute_cli.models.load import Loaded
from reroute_cli.profiling.loop import measure
from reroute_cli.profiling.plan import Plan
from reroute_cli.profiling.report import make_report
from reroute_cli.profiling.series import ratios, series
from reroute_cli.profiling.work import prepare
from reroute_cli.record_file import RecordFile
from reroute_cli.records.report import Ratio, Report, Series
from reroute_cli.records.sweep import CostBlock
from reroute_cli.run.answer import settings_of

_MACHINE = ("cpu", "gpus", "driver", "cuda", "python", "packages", "settings")  # not the commit: see `_key`


@dataclass(frozen=True)
class CostJob:
    """What is measured: these items under these arms, the dense one first. seed: of dummy weights."""

    loaded: Loaded
    arms: tuple[Arm, ...]
    items: tuple[Item, ...]
    plan: Plan
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


def measure_costs(
    job: CostJob, file: RecordFile, tell: Callable[[str], None], done: Callable[[], None]
) -> list[Report]:
    """A report of each item, measured now or in an earlier run on the same file."""
    machine = describe_environment(job.loaded.proven)
    found = []
    for number, named in enumerate(job.items, start=1):
        item = named.read()
        key = _key(job, item, machine)
        if file.is_done(key):
            for _ in range(job.steps):
                done()
        else:
            tell(f"costs, item {number} of {len(job.items)}")
            file.append(_block(job, item, key, done).as_dict())
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


def _block(job: CostJob, item: Item, key: str, done: Callable[[], None]) -> CostBlock:
    work = prepare(job.loaded, [item], job.arms, job.plan.new_tokens)
    report = make_report(work, job.plan, measure(work, job.plan, lambda _: None, done), job.seed)
    return CostBlock(id=item.id, key=key, report=report)


def _key(job: CostJob, item: Item, machine: Mapping[str, Any]) -> str:
    """The commit is no part of it: a change of the code that leaves the work alone leaves its cost alone."""
    first, *others = (image.digest() for image in item.images)
    parts: dict[str, Any] = {
        "cost": asdict(job.plan),
        "picture": first,
        "question": item.question,
        "arms": [[arm.name, settings_of(job.loaded, arm.choice, job.plan.new_tokens)] for arm in job.arms],
        "device": job.loaded.device,
        "machine": {name: machine[name] for name in _MACHINE},
    }
    if others or item.turns:
        parts |= {"others": others, "turns": [turn.message() for turn in item.turns]}
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
