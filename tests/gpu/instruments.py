"""Steps that ask whether the instruments are right: each against something whose size is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from reroute_cli.measure.clock import TokenClock
from reroute_cli.measure.environment import describe_environment
from reroute_cli.measure.memory import ABSENT, NvmlSampler, TorchPeaks, load_nvml
from tests.gpu.outcome import Job, Skipped, write

TOKEN = 0.05  # seconds of a known kernel that stands for a token
TOKENS = 4
HELD = 1 << 30  # bytes of a known tensor
SIDE = 4096  # of the matrices of a long kernel
CYCLES = 50_000_000  # of a kernel whose seconds are asked of the host's clock


def device(job: Job) -> None:
    """What the machine is, and that it computes."""
    environment = describe_environment()
    write(job.file("environment.json"), environment)
    job.note("torch", environment["packages"]["torch"])
    job.note("transformers", environment["packages"]["transformers"])
    job.note("flash-attn", environment["packages"]["flash-attn"] or "not installed")
    left = torch.arange(64.0, device=job.device).view(8, 8)
    right = float((left @ left.T).trace())
    job.note("sum of squares of 0 to 63", right, least=85344, most=85344)
    if job.on_card:
        (card,) = environment["gpus"][:1]
        job.note("card", card["name"])
        job.note("memory", card["memory_bytes"] / 2**30, "GiB")
        job.note("driver", environment["driver"], reason="NVML does not say")
        job.note("MIG", *_mig(job))


def _mig(job: Job) -> tuple[str]:
    """Whether the card is cut into slices, as NVML says."""
    try:
        with nvml(job) as (module, card):
            current, pending = module.nvmlDeviceGetMigMode(card)
    except Skipped as reason:
        return (f"not told: {reason}",)
    return (f"mode {current}, pending {pending}",)


@contextmanager
def nvml(job: Job) -> Iterator[tuple[Any, Any]]:
    """NVML and its handle of the card; Skipped where NVML does not answer, also within the block."""
    module = load_nvml()
    try:
        module.nvmlInit()
        try:
            yield module, module.nvmlDeviceGetHandleByUUID(f"GPU-{_card_uuid(job)}")
        finally:
            module.nvmlShutdown()
    except module.NVMLError as error:
        raise Skipped(f"NVML: {error}") from error


def _card_uuid(job: Job) -> str:
    return str(torch.cuda.get_device_properties(torch.device(job.device)).uuid)


def clock(job: Job) -> None:
    """The clock of answers against a kernel of known time, and that nothing waits for it in between."""
    work, seconds = _known_work(job)
    found, began = TokenClock(job.device), time.perf_counter()
    with found:
        for _ in range(TOKENS):
            work()
            found(torch.zeros(1, 3, dtype=torch.long, device=job.device), None)
        queued = time.perf_counter() - began
    job.note("a known token", seconds, "s")
    job.goal("TTFT over the known time", found.ttft / seconds, least=0.97, most=1.03)
    job.goal("TPOT over the known time", (found.tpot or 0.0) / seconds, least=0.97, most=1.03)
    job.note("tokens", float(found.tokens), least=TOKENS, most=TOKENS)
    job.note("end to end", found.end_to_end / (TOKENS * seconds), "of the known time", least=0.9, most=2.0)
    job.goal("time to queue all of it", queued / (TOKENS * seconds), "of the known time", most=0.2)


def _known_work(job: Job) -> tuple[Callable[[], object], float]:
    """Work of the device and the seconds that it takes by the host's clock."""
    if not job.on_card:
        return lambda: time.sleep(TOKEN), TOKEN

    def timed(cycles: int) -> float:
        torch.cuda.synchronize()
        start = time.perf_counter()
        torch.cuda._sleep(cycles)
        torch.cuda.synchronize()
        return time.perf_counter() - start

    timed(CYCLES)  # the card leaves its idle clocks
    cycles = int(CYCLES * TOKEN / timed(CYCLES))
    return lambda: torch.cuda._sleep(cycles), min(timed(cycles) for _ in range(3))


def memory(job: Job) -> None:
    """Torch's and NVML's peaks against a tensor of known size."""
    with ExitStack() as stack:
        uuid = _uuid(job, stack)
        torch.zeros(1, device=job.device)
        with NvmlSampler(uuid) as before:
            time.sleep(0.05)
        with NvmlSampler(uuid) as after, TorchPeaks(job.device) as peaks:
            held = torch.ones(HELD if job.on_card else 1024, dtype=torch.uint8, device=job.device)
            time.sleep(0.1)
            del held
    for name in ("allocated", "reserved"):
        value = getattr(peaks, name)
        reason = None if job.on_card else "torch counts nothing on a CPU"
        bounds = {"least": HELD, "most": HELD + 64 * 2**20} if job.on_card else {}
        job.note(f"torch, {name}", value, "bytes", reason=reason, **bounds)
    for name in ("process", "device"):
        first, second = getattr(before, name), getattr(after, name)
        if first is None or second is None:
            job.note(f"NVML, {name}", None, "bytes", reason=after.reasons.get(name, ABSENT))
        else:
            job.goal(
                f"NVML, {name}, more than before", second - first, "bytes", least=0.95 * HELD, most=1.5 * HELD
            )


def energy(job: Job) -> None:
    """The energy counter against the power that the card reports over two seconds of a long known kernel."""
    side, seconds = (SIDE, 2.0) if job.on_card else (64, 0.1)
    with ExitStack() as stack:
        uuid, watts = _uuid(job, stack), list[float]()
        power, work = _power(job, stack), torch.randn(side, side, device=job.device)
        began = time.perf_counter()
        with NvmlSampler(uuid) as sampler:
            while time.perf_counter() - began < seconds:
                for _ in range(20):
                    torch.mm(work, work)
                float(work[0, 0])  # waits
                watts.append(power())
        took = time.perf_counter() - began
    if sampler.energy is None:
        job.note("energy", None, "J", reason=sampler.reasons["energy"])
        return
    mean = sum(watts) / len(watts)
    job.note("power that is reported", mean, "W")
    job.note("energy", sampler.energy, "J")
    job.goal("energy over reported power", sampler.energy / took / mean, least=0.7, most=1.3)


def _uuid(job: Job, stack: ExitStack) -> str:
    """The card as NVML finds it; on the CPU a driver of the tests, with one GPU that answers."""
    if job.on_card:
        return _card_uuid(job)
    import os

    import pytest

    from tests.cli.measure.fake_nvml import Driver

    patch = stack.enter_context(pytest.MonkeyPatch.context())
    Driver(patch, used=[100, 100 + HELD], processes=[(os.getpid(), 55)])
    return "abc"


def _power(job: Job, stack: ExitStack) -> Callable[[], float]:
    """Watts that the card draws now; on the CPU a number."""
    if not job.on_card:
        return lambda: 50.0
    module, card = stack.enter_context(nvml(job))
    return lambda: float(module.nvmlDeviceGetPowerUsage(card)) / 1e3
