"""An NVIDIA driver of our own beneath the real pynvml: its C functions, with the C library's own error codes.

Everything above the C boundary is the installed pynvml: names, signatures, structures, exceptions, and how a
value that is not available becomes None. Does not know what is under test.
"""

# ruff: noqa: N802 - the names are those of the C library

import threading
from itertools import chain, repeat

import pynvml

GONE = pynvml.NVML_ERROR_GPU_IS_LOST
NOT_SUPPORTED = pynvml.NVML_ERROR_NOT_SUPPORTED
_HIDDEN = pynvml.NVML_VALUE_NOT_AVAILABLE_ulonglong.value


class Driver:
    """One GPU that answers as told; make it with a monkeypatch, and pynvml talks to it.

    used, energy: successive answers, the last one repeated. processes: (pid, bytes), bytes None where hidden.
    fails: error code by function name. lacks: functions that this driver is too old for.
    """

    def __init__(
        self,
        monkeypatch,
        *,
        uuids=("GPU-abc",),
        used=(100,),
        processes=(),
        energy=(0, 5000),
        fails=(),
        lacks=(),
    ):
        self.uuids, self.processes, self.fails, self.lacks = uuids, list(processes), dict(fails), lacks
        self._used, self._energy = (chain(each, repeat(each[-1])) for each in (used, energy))
        self.inits = self.shutdowns = self.samples = 0
        self.asked = set()
        self._sampled = threading.Condition()
        monkeypatch.setattr(pynvml, "nvmlLib", self)
        monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if not name.startswith("nvml"):
            return found
        if name in self.lacks:
            raise AttributeError(name)  # as ctypes says of a library without that symbol
        return lambda *args: self._refusal(name) or found(*args)  # pynvml keeps functions that it once found

    def _refusal(self, name):
        """The error code of this call, None where it succeeds."""
        self.asked.add(name)
        if name in self.fails:
            return self.fails[name]
        closed = self.inits == self.shutdowns and name != "nvmlInitWithFlags"
        return pynvml.NVML_ERROR_UNINITIALIZED if closed else None

    def wait(self, samples):
        """Until memory was asked for this many times more."""
        with self._sampled:
            goal = self.samples + samples
            assert self._sampled.wait_for(lambda: self.samples >= goal, timeout=30)

    def die(self):
        """From now on nothing answers."""
        names = [name for name in dir(type(self)) if name.startswith("nvml")]
        self.fails = dict.fromkeys(names, GONE)

    def nvmlInitWithFlags(self, flags):
        self.inits += 1
        return pynvml.NVML_SUCCESS

    def nvmlShutdown(self):
        self.shutdowns += 1
        return pynvml.NVML_SUCCESS

    def nvmlSystemGetDriverVersion(self, buffer, size):
        buffer.value = b"580.1"
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetHandleByUUID(self, uuid, device):
        return pynvml.NVML_SUCCESS if uuid.value.decode() in self.uuids else pynvml.NVML_ERROR_NOT_FOUND

    def nvmlDeviceGetMemoryInfo(self, handle, memory):
        with self._sampled:
            self.samples += 1
            self._sampled.notify_all()
            memory._obj.used, memory._obj.total = next(self._used), 10**12
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetComputeRunningProcesses_v3(self, handle, count, array):
        if array is None:
            count._obj.value = len(self.processes)
            return pynvml.NVML_ERROR_INSUFFICIENT_SIZE if self.processes else pynvml.NVML_SUCCESS
        for index, (pid, used) in enumerate(self.processes):
            array[index].pid = pid
            array[index].usedGpuMemory = _HIDDEN if used is None else used
        count._obj.value = len(self.processes)
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetTotalEnergyConsumption(self, handle, millijoules):
        millijoules._obj.value = next(self._energy)
        return pynvml.NVML_SUCCESS
