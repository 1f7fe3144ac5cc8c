"""Memory under five names: weights, torch peaks allocated and reserved, NVML peaks, host peak RSS.

Unknown is None with a reason, never 0. Knows torch only through what it is given; NVML is in nvml.py.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from reroute_cli.console.errors import Failure
from reroute_cli.console.missing import lacks

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
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024


@dataclass(frozen=True)
class KvUse:
    """A cache as it is. tokens, bytes: per layer, stored. logical: positions the cache stands for."""

    tokens: tuple[int, ...]
    bytes: tuple[int, ...]
    logical: int
    dense_bytes: int

    @property
    def total_bytes(self) -> int:
        """Bytes of all layers."""
        return sum(self.bytes)


def measure_kv(cache: Any) -> KvUse:
    """Measure a transformers cache; `dense_bytes` is arithmetic: every layer at its full logical length.

    Raises Failure for quantised caches, whose bytes lie in forms of their own.
    """
    layers = filled_layers(cache)
    held, dense_bytes = [], 0
    seen: set[int] = set()  # storages, of which layers may share some
    for layer in layers:
        _check_whole(layer)
        held.append(0)
        length, window = int(layer.get_seq_length()), window_of(layer)
        if window is not None:  # a sliding layer holds no more even with nothing removed
            length = min(length, window - 1)
        for tensor in (layer.keys, layer.values):
            dense_bytes += (
                tensor.shape[0] * tensor.shape[1] * length * tensor.shape[3] * tensor.element_size()
            )
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in seen:
                seen.add(storage.data_ptr())
                held[-1] += int(storage.nbytes())
    return KvUse(
        tokens=tuple(int(layer.keys.shape[-2]) for layer in layers),
        bytes=tuple(held),
        logical=max((int(layer.get_seq_length()) for layer in layers), default=0),
        dense_bytes=dense_bytes,
    )


def filled_layers(cache: Any) -> list[Any]:
    """The layers of a transformers cache that hold something; Failure where one has no place for it."""
    for layer in cache.layers:
        for name in ("keys", "values"):
            if not hasattr(layer, name):
                raise Failure(lacks("transformers", name, type(layer).__name__))
    return [layer for layer in cache.layers if layer.keys is not None]


def window_of(layer: Any) -> int | None:
    """The window of a layer that slides, None of one that keeps all; Failure where it can't be told."""
    from routing.cache import RoutedLayer  # torch, which host_peak_rss does without

    if isinstance(layer, RoutedLayer):
        return layer.window
    if not layer.is_sliding:
        return None
    if not hasattr(layer, "sliding_window"):
        raise Failure(lacks("transformers", "sliding_window", type(layer).__name__))
    return int(layer.sliding_window)


def _check_whole(layer: Any) -> None:
    """Refuse a layer that keeps tokens elsewhere than in its keys (raises Failure)."""
    from routing.cache import RoutedLayer

    stored, logical = int(layer.keys.shape[-2]), int(layer.get_seq_length())
    slides = isinstance(layer, RoutedLayer) or layer.is_sliding
    if hasattr(layer, "_quantized_keys") or (stored < logical and not slides):
        raise Failure(
            f"the bytes of a {type(layer).__name__} can't be measured, its keys show {stored} of {logical} "
            "tokens: run the model with an ordinary KV cache (no cache_implementation in its "
            "generation_config.json)"
        )
