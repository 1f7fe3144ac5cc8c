"""What a step finds, written down while it runs: numbers with units, their bounds beside them.

FOLDER/gpu.json (`reroute.gpu/1`), written anew after each step, so that a part of a run is a valid file:

    schema, minutes, device, finished (bool), seconds (of all so far)
    environment   as in every record of `reroute`, with the card, its driver, torch and transformers
    steps         in the order of running, each with
        name, status  "passed", "failed", "skipped", "out of time"
        reason        why it is not "passed"; null where it is
        seconds       that it took; within: that it was allowed
        measures      name, value (number, text, null), unit, least, most (null: no bound), reason (of null)
        files         what else it has written into FOLDER: records of `reroute`, results of benchmarks

Knows no torch and no process.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

SCHEMA = "reroute.gpu/1"
Status = Literal["running", "passed", "failed", "skipped", "out of time"]


class Skipped(Exception):
    """A step, or a part of one, cannot be asked here; the message says why."""


@dataclass(frozen=True)
class Measure:
    """One number (or text) with its bounds, both included. reason: why the value is None."""

    name: str
    value: float | str | None
    unit: str = ""
    least: float | None = None
    most: float | None = None
    reason: str | None = None

    @property
    def holds(self) -> bool:
        """Within its bounds; a number that is missing or not finite is within none."""
        if self.least is None and self.most is None:
            return True
        if not isinstance(self.value, int | float) or not abs(self.value) < float("inf"):
            return False
        return (self.least is None or self.value >= self.least) and (
            self.most is None or self.value <= self.most
        )

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.name} unknown ({self.reason})"
        shown = self.value if isinstance(self.value, str) else f"{self.value:.4g}"
        bounds = [
            f"{sign} {bound:g}"
            for sign, bound in ((">=", self.least), ("<=", self.most))
            if bound is not None
        ]
        return f"{self.name} {shown} {self.unit}".strip() + (f" ({', '.join(bounds)})" if bounds else "")


@dataclass
class Outcome:
    """One step, as far as it has come."""

    name: str
    within: float
    status: Status = "running"
    reason: str | None = None
    seconds: float = 0.0
    measures: list[Measure] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    def conclude(self) -> None:
        """From "running" to "passed", or "failed" where a bound is broken."""
        broken = [str(measure) for measure in self.measures if not measure.holds]
        self.status, self.reason = ("failed", "; ".join(broken)) if broken else ("passed", None)

    @property
    def headline(self) -> str:
        """The reason, or what was measured first."""
        return self.reason or "; ".join(str(measure) for measure in self.measures[:3])


@dataclass
class Job:
    """What a step is told, and where it writes what it finds, at once. folder: for its files."""

    device: str
    folder: Path
    outcome: Outcome
    started: float = field(default_factory=time.perf_counter)

    @property
    def on_card(self) -> bool:
        """Whether this is a GPU, of which bounds on speed hold."""
        return self.device.startswith("cuda")

    @property
    def left(self) -> float:
        """Seconds until the step is ended."""
        return self.outcome.within - (time.perf_counter() - self.started)

    def note(self, name: str, value: float | str | None, unit: str = "", **more: Any) -> None:
        """Write down a measure, with the bounds that hold everywhere (least, most), or the reason of None."""
        self.outcome.measures.append(Measure(name, value, unit, **more))
        self.save()

    def goal(self, name: str, value: float | None, unit: str = "", **bounds: float) -> None:
        """The same with bounds that hold on a GPU alone."""
        self.note(name, value, unit, **(bounds if self.on_card else {}))

    def file(self, name: str) -> Path:
        """Where a file of that name goes."""
        self.outcome.files.append(name)
        return self.folder / name

    def save(self) -> None:
        """Write the outcome where the run finds it."""
        self.outcome.seconds = time.perf_counter() - self.started
        write(outcome_path(self.folder, self.outcome.name), asdict(self.outcome))


def outcome_path(folder: Path, step: str) -> Path:
    """Where a step's outcome stands until the run has read it."""
    return folder / "steps" / f"{step}.json"


def read_outcome(path: Path) -> Outcome:
    """What a step wrote last."""
    given = json.loads(path.read_text(encoding="utf-8"))
    return Outcome(**given | {"measures": [Measure(**measure) for measure in given["measures"]]})


def write(path: Path, value: Any) -> None:
    """JSON that is never there by half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(value, indent=1, allow_nan=False, default=str) + "\n", encoding="utf-8")
    beside.replace(path)
