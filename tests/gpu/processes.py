"""One step in a process of its own: whatever becomes of it, it is one outcome, in time.

A step runs in a fork of a process that has imported everything and asked nothing of the GPU, or in a fresh
interpreter where a fork could not use the GPU. It leads a process group, which is ended when its time is
over. Knows no step.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from tests.gpu.outcome import Job, Outcome, Skipped, outcome_path, read_outcome

LAST_WORDS = 2.0  # seconds before the end at which a step says where it stands
DYING = 10.0  # seconds after which a process that cannot be ended is left behind

IMPORTS = 60.0  # seconds that a fresh interpreter may take before its step begins

Step = Callable[[Job], None]


def run_step(job: Job, step: Step, fresh: Sequence[str] | None) -> Outcome:
    """The outcome of a step in a process of its own: a fork, or an interpreter with these arguments."""
    outcome, log = job.outcome, job.folder / "logs" / f"{job.outcome.name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    job.save()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _become(job, step, log, fresh)
    status = _wait(pid, outcome.within + (IMPORTS if fresh else 0.0))
    with suppress(OSError, ValueError, TypeError, KeyError):
        outcome = read_outcome(outcome_path(job.folder, outcome.name))
    if outcome.status == "running":
        outcome.status, outcome.reason = _death(status, log)
    outcome.seconds = time.perf_counter() - job.started
    return outcome


def _become(job: Job, step: Step, log: Path, fresh: Sequence[str] | None) -> None:
    """In the fork: lead a group, write into the log, become the step; never returns."""
    try:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(output, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if fresh:
            os.execv(sys.executable, [sys.executable, "-m", "tests.gpu", *fresh])
        perform(job, step)
    except BaseException:  # noqa: BLE001  # of this file itself: into the log
        traceback.print_exc()
        os._exit(70)
    os._exit(0)


def forks_are_spoiled() -> bool:
    """Whether somebody has asked the GPU something in this process, so that its forks cannot use it."""
    import torch

    pid = os.fork()
    if pid == 0:
        os._exit(int(torch.cuda._is_in_bad_fork()))
    return bool(os.waitpid(pid, 0)[1])


def perform(job: Job, step: Step) -> None:
    """Run a step here and write down what became of it."""
    faulthandler.enable()
    faulthandler.dump_traceback_later(max(0.1, job.left - LAST_WORDS))
    try:
        step(job)
    except Skipped as reason:
        job.outcome.status, job.outcome.reason = "skipped", str(reason)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a step may fail in any way
        traceback.print_exc()
        job.outcome.status, job.outcome.reason = "failed", f"{type(error).__name__}: {_line(str(error))}"
    else:
        job.outcome.conclude()
    faulthandler.cancel_dump_traceback_later()
    job.save()
    sys.stdout.flush()
    sys.stderr.flush()


def _wait(pid: int, within: float) -> int | None:
    """The wait status of a process; None where it had to be ended."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            _end_group(pid)  # what it may have started
            return status
        time.sleep(0.02)
    _end_group(pid)
    until = time.monotonic() + DYING
    while time.monotonic() < until and not os.waitpid(pid, os.WNOHANG)[0]:
        time.sleep(0.02)
    return None


def _end_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _death(status: int | None, log: Path) -> tuple[str, str]:
    """Status and reason of a step that wrote no end."""
    with suppress(OSError):
        words = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        last = _line(words[-1]) if words else "it printed nothing"
    if status is None:
        return "out of time", f"ended when its time was over; logs/{log.name} says where it stood"
    code = os.waitstatus_to_exitcode(status)
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return "failed", f"{how}; {last}"


def _line(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 300 else words[:299] + "…"
