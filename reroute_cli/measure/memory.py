"""Memory under five names: weights, torch peaks allocated and reserved, NVML peaks, host peak RSS.

And energy, where the driver counts it. Unknown is None with a reason, never 0: no driver, a process that
containers hide. NVML samples memory in a thread of its own; handles are found by UUID, since
CUDA_VISIBLE_DEVICES renumbers devices. Knows torch only through what it is given.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from reroute_cli.console.errors import Failure
from reroute_cli.console.missing import lacks, missing_name

_STATES = ("conv_states", "recurrent_states")  # of recurrent layers, by number
_STATUS = Path("/proc/self/status")
PERIOD = 0.01  # seconds between two samples
ABSENT = "NVML lists no memory for this process: containers hide process ids, some drivers hide usage"
BACKWARDS = "NVML's energy counter went back: the driver was reloaded, or the counter started anew"
TOO_SHORT = "NVML's energy counter did not move: the run was shorter than the counter's own period"


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
        from reroute_cli.measure.clock import alone  # loads torch, which host memory is asked without

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
