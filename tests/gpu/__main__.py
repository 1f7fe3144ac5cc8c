"""Everything that needs a GPU, in one command that fits nine minutes: `python -m tests.gpu --out FOLDER`.

    python -m tests.gpu --out FOLDER                  # on a GPU: eight minutes at most
    python -m tests.gpu --out FOLDER --device cpu     # the same code on tiny shapes: what the tests run
    python -m tests.gpu --out FOLDER --only clock,memory

Each step is a process of its own with a time of its own, prints one line and is written into
FOLDER/gpu.json (outcome.py says how) before the next one begins; FOLDER/logs holds what it printed. The exit
code is 0 only where every step passed or was skipped with a reason.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # or to ask for a GPU spoils it for forks

from tests.gpu.outcome import SCHEMA, Job, Outcome, write
from tests.gpu.processes import forks_are_spoiled, perform, run_step
from tests.gpu.steps import STEPS

LEAST = 5.0  # seconds that a step must have left to begin


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """What is run, as the command line says it."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all steps together")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(STEPS), metavar="STEP,...")
    parser.add_argument(
        "--fresh", action="store_true", help="an interpreter a step: slower, and shares nothing"
    )
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)  # one step, here, with so many seconds
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.only if name not in STEPS]:
        parser.error(f"--only: '{unknown[0]}' is none of {', '.join(STEPS)}")
    options.out = options.out.resolve()
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the steps; the exit code."""
    options, started = options_of(arguments), time.monotonic()
    if options.step:
        name, within = options.step
        perform(_job(options, name, float(within)), STEPS[name].run)
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    fresh = options.fresh or (options.device.startswith("cuda") and forks_are_spoiled())

    def summary(finished: bool) -> None:
        write(options.out / "gpu.json", _summary(options, outcomes, time.monotonic() - started, finished))

    for name in options.only:
        left = 60 * options.minutes - (time.monotonic() - started)
        job = _job(options, name, min(STEPS[name].within, left))
        if left < LEAST:
            job.outcome.status, job.outcome.reason = "out of time", f"--minutes {options.minutes:g} are over"
            outcomes.append(job.outcome)
        else:
            again = ["--out", str(options.out), "--device", options.device, "--step", name, str(job.left)]
            outcomes.append(run_step(job, STEPS[name].run, again if fresh else None))
        print(_line(outcomes[-1]), flush=True)
        summary(finished=False)
    summary(finished=True)
    return 0 if all(outcome.status in ("passed", "skipped") for outcome in outcomes) else 1


def _job(options: argparse.Namespace, name: str, within: float) -> Job:
    return Job(options.device, options.out, Outcome(name, within))


def _line(outcome: Outcome) -> str:
    took = f"{outcome.seconds:6.1f} of {outcome.within:.0f} s"
    return f"{outcome.name:15}{outcome.status:12}{took}  {outcome.headline}"


def _summary(
    options: argparse.Namespace, outcomes: list[Outcome], seconds: float, finished: bool
) -> dict[str, Any]:
    environment = options.out / "environment.json"
    return {
        "schema": SCHEMA,
        "minutes": options.minutes,
        "device": options.device,
        "finished": finished,
        "seconds": seconds,
        "environment": json.loads(environment.read_text(encoding="utf-8")) if environment.exists() else None,
        "steps": [asdict(outcome) for outcome in outcomes],
    }


if __name__ == "__main__":
    sys.exit(main())
