"""GPU memory as the driver sees it, sampled in a thread of its own through NVML.

Handles are found by UUID (CUDA_VISIBLE_DEVICES renumbers devices). Whatever NVML can't say becomes None with
the reason: no driver, a process that containers hide, a part that does not support the question.
"""

from __future__ import annotations

import importlib
import os
import threading
from types import TracebackType
from typing import Any

PERIOD = 0.01  # seconds between two samples
ABSENT = "NVML lists no memory for this process: containers hide process ids, some drivers hide usage"


def load_nvml() -> Any:
    """The pynvml module of nvidia-ml-py."""
    return importlib.import_module("pynvml")


class NvmlSampler:
    """Peak bytes of this process and of its whole GPU while the context is open.

    uuid: of the GPU, as torch gives it (without 'GPU-'). After the context `process` and `device` are bytes
    or None, and `reasons` says why for each that is None.
    """

    def __init__(
        self, uuid: str, *, nvml: Any = None, period: float = PERIOD, pid: int | None = None
    ) -> None:
        self.process: int | None = None
        self.device: int | None = None
        self.reasons: dict[str, str] = {}
        self._uuid, self._nvml, self._period, self._pid = uuid, nvml, period, pid or os.getpid()
        self._handle: Any = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> NvmlSampler:
        if self._connect():
            self._sample()
            self._thread = threading.Thread(target=self._run, name="nvml", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is None:
            return
        self._stop.set()
        self._thread.join()
        self._sample()
        self._nvml.nvmlShutdown()

    def _connect(self) -> bool:
        """Load NVML and find the GPU; False, with the reasons noted, where that fails."""
        try:
            self._nvml = self._nvml or load_nvml()
        except ImportError as error:
            return self._unknown(f"the module pynvml (nvidia-ml-py) can't be loaded: {error}")
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as error:
            return self._unknown(f"NVML: {error}")
        try:
            self._handle = self._by_uuid()
        except self._nvml.NVMLError as error:
            self._nvml.nvmlShutdown()
            return self._unknown(f"NVML: {error}")
        return True

    def _by_uuid(self) -> Any:
        """The handle of the whole GPU or of the MIG slice with this UUID."""
        try:
            return self._nvml.nvmlDeviceGetHandleByUUID(f"GPU-{self._uuid}")
        except self._nvml.NVMLError:
            return self._nvml.nvmlDeviceGetHandleByUUID(f"MIG-{self._uuid}")

    def _unknown(self, reason: str) -> bool:
        self.reasons = {"process": reason, "device": reason}
        return False

    def _run(self) -> None:
        while not self._stop.wait(self._period):
            self._sample()

    def _sample(self) -> None:
        """Raise the peaks to what NVML says now."""
        for name, ask in (("device", self._device_bytes), ("process", self._process_bytes)):
            try:
                now = ask()
            except self._nvml.NVMLError as error:
                now, reason = None, f"NVML: {error}"
            else:
                reason = ABSENT
            self._note(name, now, reason)

    def _note(self, name: str, now: int | None, reason: str) -> None:
        peak = getattr(self, name)
        if now is not None:
            setattr(self, name, max(now, peak or 0))
            self.reasons.pop(name, None)
        elif peak is None:
            self.reasons[name] = reason

    def _device_bytes(self) -> int:
        return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used)

    def _process_bytes(self) -> int | None:
        """This process's bytes, or None when NVML does not list it or hides its number."""
        running = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        used = [process.usedGpuMemory for process in running if process.pid == self._pid]
        known = [int(number) for number in used if number is not None]
        return sum(known) if known else None


def driver_version(nvml: Any = None) -> str | None:
    """The NVIDIA driver's version; None where NVML or the driver is missing."""
    try:
        nvml = nvml or load_nvml()
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        version = str(nvml.nvmlSystemGetDriverVersion())
        nvml.nvmlShutdown()
    except nvml.NVMLError:
        return None
    return version
