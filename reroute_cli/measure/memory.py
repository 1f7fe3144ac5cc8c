"""Memory under five names: weights, torch peaks allocated and reserved, NVML peaks, host peak RSS.

Unknown is None with a reason, never 0. Knows torch only through what it is given; NVML is in nvml.py.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")


def weights_bytes(model: Any) -> int:
    """Bytes of the distinct storages behind a model's parameters and buffers (tied weights count once)."""
    storages: dict[int, int] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = int(storage.nbytes())
    return sum(storages.values())


def reset_torch_peaks(device: str) -> None:
    """Start the peak counters of a CUDA device anew; elsewhere there are none."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)


def torch_peaks(device: str) -> tuple[int | None, int | None]:
    """(allocated, reserved) peak bytes of a CUDA device since the reset; (None, None) elsewhere."""
    if not device.startswith("cuda"):
        return None, None
    import torch

    torch.cuda.synchronize(device)
    return int(torch.cuda.max_memory_allocated(device)), int(torch.cuda.max_memory_reserved(device))


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
