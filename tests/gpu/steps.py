"""The steps in the order in which they run: what is worth most first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from tests.gpu import engine, instruments, speed
from tests.gpu.processes import Step


@dataclass(frozen=True)
class Bounded:
    """A step, and the seconds that it may take on a GPU."""

    run: Step
    within: float


STEPS: dict[str, Bounded] = {
    "device": Bounded(instruments.device, 30),
    "invariants": Bounded(engine.invariants, 60),
    "limits": Bounded(speed.limits, 60),
    "decode": Bounded(speed.decode, 60),
    "profile-0.778": Bounded(partial(speed.profile, ratio="0.778"), 70),
    "waits": Bounded(engine.waits, 30),
    "flops": Bounded(speed.flops, 30),
    "peaks": Bounded(speed.peaks, 30),
    "throughput": Bounded(speed.throughput, 60),
    "clock": Bounded(instruments.clock, 15),
    "memory": Bounded(instruments.memory, 15),
    "energy": Bounded(instruments.energy, 20),
    "bfloat16": Bounded(engine.bfloat16, 20),
    "profile-0.889": Bounded(partial(speed.profile, ratio="0.889"), 70),
    "profile-0.667": Bounded(partial(speed.profile, ratio="0.667"), 70),
    "flash": Bounded(engine.flash, 20),
}
