"""Memory under five names: weights, torch peaks allocated and reserved, NVML peaks, host peak RSS.

Unknown is None with a reason, never 0. Knows torch only through what it is given; NVML is in nvml.py.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import Any

_STATUS = Path("/proc/self/status")


def weights_bytes(model: Any) -> int:
    """Bytes of the distinct storages behind a model's parameters and buffers (tied weights count once)."""
    storages: dict[int, int] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = int(storage.nbytes())
    return sum(storages.values())


class TorchPeaks:
    """Peak bytes of torch's allocator on a CUDA device while the context is open.

    Afterwards `allocated` and `reserved`; None on other devices, where torch counts nothing, and after an
    exception.
    """

    def __init__(self, device: str) -> None:
        self.allocated: int | None = None
        self.reserved: int | None = None
        self._device = device if device.startswith("cuda") else None

    def __enter__(self) -> TorchPeaks:
        if self._device:
            import torch

            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._device and error is None:
            import torch

            torch.cuda.synchronize(self._device)
            self.allocated = int(torch.cuda.max_memory_allocated(self._device))
            self.reserved = int(torch.cuda.max_memory_reserved(self._device))


def host_peak_rss() -> int | None:
    """Peak resident bytes of this process since it started; None where the system does not say.

    Linux is asked for the peak of this very program: getrusage also reports what the process that started it
    had resident.
    """
    if _STATUS.exists():
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        peaks = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
        if peaks:
            return peaks[0]
    return _rusage_peak()


def _rusage_peak() -> int | None:
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024
