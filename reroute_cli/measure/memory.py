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

_STATES = ("conv_states", "recurrent_states")  # of recurrent layers, by number
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
    """A cache as it is. tokens, bytes: per layer, stored. logical: positions the cache stands for.

    A recurrent layer stores no tokens and bytes of states that are as many after any number of them.
    """

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
        states = sum(int(state.untyped_storage().nbytes()) for state in states_of(layer))
        dense_bytes += states
        held.append(states)
        if not has_keys(layer):
            continue
        _check_whole(layer)
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
        tokens=tuple(int(layer.keys.shape[-2]) if has_keys(layer) else 0 for layer in layers),
        bytes=tuple(held),
        logical=max((int(layer.get_seq_length()) for layer in layers if has_keys(layer)), default=0),
        dense_bytes=dense_bytes,
    )


def filled_layers(cache: Any) -> list[Any]:
    """The layers of a transformers cache that hold something; Failure where one has no place for it."""
    for layer in cache.layers:
        for name in ("keys", "values"):
            if not hasattr(layer, name) and not hasattr(layer, _STATES[0]):
                raise Failure(lacks("transformers", name, type(layer).__name__))
    return [layer for layer in cache.layers if has_keys(layer) or states_of(layer)]


def has_keys(layer: Any) -> bool:
    """Whether a layer of a cache stores keys and values of tokens."""
    return getattr(layer, "keys", None) is not None


def states_of(layer: Any) -> list[Any]:
    """The states (tensors) of a recurrent layer of a cache; none of any other."""
    states = (state for name in _STATES for state in getattr(layer, name, {}).values())
    return [state for state in states if state is not None]


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
