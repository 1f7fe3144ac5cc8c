"""GPU memory and energy as the driver sees them, memory sampled in a thread of its own through NVML.

Handles are found by UUID (CUDA_VISIBLE_DEVICES renumbers devices). Whatever NVML can't say becomes None with
the reason: no driver, a process that containers hide, a part that does not support the question, a driver
that stops answering, a pynvml without the function. Knows no torch.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any

from reroute_cli.console.missing import lacks, missing_name
from reroute_cli.measure.clock import alone

PERIOD = 0.01  # seconds between two samples
ABSENT = "NVML lists no memory for this process: containers hide process ids, some drivers hide usage"
BACKWARDS = "NVML's energy counter went back: the driver was reloaded, or the counter started anew"
TOO_SHORT = "NVML's energy counter did not move: the run was shorter than the counter's own period"


def load_nvml() -> Any:
    """The pynvml module of nvidia-ml-py."""
    return importlib.import_module("pynvml")


def _failures(nvml: Any) -> tuple[type[Exception], ...]:
    """What is raised when NVML can't answer: by pynvml itself, to which a driver older than the module is no
    NVMLError, and by Python for a name that this pynvml lacks.
    """
    names = ("NVMLError", "NVMLLibraryMismatchError")
    return AttributeError, *(getattr(nvml, name) for name in names if hasattr(nvml, name))


def _reason(error: Exception) -> str:
    return missing_name(error) or f"NVML: {error}"


class NvmlSampler:
    """Peak bytes of this process and of its whole GPU, and the GPU's energy, while the context is open.

    uuid: of the GPU, as torch gives it (without 'GPU-'); None where it gives none. period: seconds
    between two samples; what comes and goes in between is not seen. Afterwards `process` and `device` are
    bytes, `energy` is joules; each may be None, and then `reasons` says why under its name. The energy
    counter is the whole GPU's and coarse: the driver renews it in steps, so a short run's joules are rough.
    """

    def __init__(
        self, uuid: str | None, *, nvml: Any = None, period: float = PERIOD, pid: int | None = None
    ) -> None:
        self.process: int | None = None
        self.device: int | None = None
        self.energy: float | None = None
        self.reasons: dict[str, str] = {}
        self.period = period
        self._uuid, self._nvml, self._pid = uuid, nvml, pid or os.getpid()
        self._handle: Any = None
        self._millijoules: int | None = None

    def __enter__(self) -> NvmlSampler:
        self.process = self.device = self.energy = None
        self.reasons = {}
        with ExitStack() as undo:
            undo.enter_context(alone("GPU memory"))
            if self._connect(undo):
                self._sample()
                undo.callback(self._sample)
                stop = threading.Event()
                thread = threading.Thread(target=self._run, args=(stop,), name="nvml", daemon=True)
                thread.start()
                undo.callback(thread.join)
                undo.callback(stop.set)
                self._millijoules = self._ask("energy", self._energy_counter)
                undo.callback(self._close_energy)
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """In the reverse order of opening: energy, the thread, a last sample, the library."""
        self._undo.close()
        if self.process is None:
            self.reasons.setdefault("process", ABSENT)

    def _connect(self, undo: ExitStack) -> bool:
        """Load NVML and find the GPU; False, with the reasons noted, where that fails."""
        if self._uuid is None:
            return self._unknown(lacks("torch", "uuid", "a GPU's properties"))
        try:
            self._nvml = self._nvml or load_nvml()
        except ImportError as error:
            return self._unknown(f"the module pynvml (nvidia-ml-py) can't be loaded: {error}")
        try:
            self._nvml.nvmlInit()
            undo.callback(self._shut_down)
            self._handle = self._by_uuid()
        except _failures(self._nvml) as error:
            return self._unknown(_reason(error))
        return True

    def _shut_down(self) -> None:
        with suppress(*_failures(self._nvml)):  # a driver that died can't be closed
            self._nvml.nvmlShutdown()

    def _by_uuid(self) -> Any:
        """The handle of the whole GPU or of the MIG slice with this UUID."""
        try:
            return self._nvml.nvmlDeviceGetHandleByUUID(f"GPU-{self._uuid}")
        except _failures(self._nvml):
            with suppress(*_failures(self._nvml)):
                return self._nvml.nvmlDeviceGetHandleByUUID(f"MIG-{self._uuid}")
            raise

    def _unknown(self, reason: str) -> bool:
        self.reasons = dict.fromkeys(("process", "device", "energy"), reason)
        return False

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(self.period):
            self._sample()

    def _sample(self) -> None:
        """Raise the peaks to what NVML says now."""
        for name, question in (("device", self._device_bytes), ("process", self._process_bytes)):
            if (now := self._ask(name, question)) is not None:
                setattr(self, name, max(now, getattr(self, name) or 0))

    def _ask(self, name: str, question: Callable[[], int | None]) -> int | None:
        """NVML's answer. Once it failed to give one, a peak would miss something: it is unknown for good."""
        if name in self.reasons:
            return None
        try:
            return question()
        except _failures(self._nvml) as error:
            self.reasons[name] = _reason(error)
            setattr(self, name, None)
            return None

    def _device_bytes(self) -> int:
        return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used)

    def _process_bytes(self) -> int | None:
        """This process's bytes, or None when NVML does not list it or hides its number."""
        running = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        used = [process.usedGpuMemory for process in running if process.pid == self._pid]
        known = [int(number) for number in used if number is not None]
        return sum(known) if known else None

    def _energy_counter(self) -> int:
        """Millijoules since the driver was loaded."""
        return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))

    def _close_energy(self) -> None:
        before, after = self._millijoules, self._ask("energy", self._energy_counter)
        if before is None or after is None:
            return
        if after > before:
            self.energy = (after - before) / 1e3
        else:
            self.reasons["energy"] = TOO_SHORT if after == before else BACKWARDS


def driver_version(nvml: Any = None) -> str | None:
    """The NVIDIA driver's version; None where NVML or the driver is missing."""
    try:
        nvml = nvml or load_nvml()
    except ImportError:
        return None
    with suppress(*_failures(nvml)), ExitStack() as undo:
        nvml.nvmlInit()
        undo.callback(nvml.nvmlShutdown)
        return str(nvml.nvmlSystemGetDriverVersion())
    return None
