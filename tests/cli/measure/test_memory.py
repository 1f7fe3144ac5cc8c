"""Memory numbers against known allocations, and NVML in each way it fails."""

import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from reroute_cli.measure.memory import host_peak_rss, torch_peaks, weights_bytes
from reroute_cli.measure.nvml import NvmlSampler, driver_version

PID = 4242


def test_weights_count_every_storage_once():
    """Tied weights are one storage, buffers belong to the model, dtypes count as they are."""
    model = nn.Module()
    model.a = nn.Linear(4, 8, bias=False)
    model.b = nn.Linear(4, 8, bias=False)
    model.b.weight = nn.Parameter(model.a.weight.data)
    model.register_buffer("table", torch.zeros(10, dtype=torch.bfloat16))
    assert weights_bytes(model) == 4 * 8 * 4 + 10 * 2


def test_pocket_weighs_four_bytes_a_parameter(pocket):
    """In float32 the embedded model's parameters and buffers make up its weight."""
    tensors = {t.data_ptr(): t for t in (*pocket.model.parameters(), *pocket.model.buffers())}
    assert weights_bytes(pocket.model) == sum(t.numel() * t.element_size() for t in tensors.values())


def test_peak_rss_follows_an_allocation():
    """Touching 64 MiB more than ever before raises the peak by about that much."""
    before = host_peak_rss()
    block = torch.ones((before + (64 << 20)) // 4)
    assert host_peak_rss() >= before + (32 << 20)
    assert block.numel()


def test_without_a_gpu_torch_peaks_are_unknown():
    """On the CPU torch's counters say 0; the answer is None."""
    assert torch_peaks("cpu") == (None, None)


class Nvml:
    """A driver with one GPU that answers as told; the error class is its own, as in pynvml."""

    class NVMLError(Exception):
        """What pynvml raises."""

    def __init__(self, *, uuids=("GPU-abc",), used=(100,), processes=(), fails=()):
        self.uuids, self.used, self.processes, self.fails = uuids, list(used), processes, set(fails)
        self.open = 0

    def _call(self, name):
        if name in self.fails:
            raise self.NVMLError(f"{name} failed")

    def nvmlInit(self):  # noqa: N802
        self._call("init")
        self.open += 1

    def nvmlShutdown(self):  # noqa: N802
        self.open -= 1

    def nvmlSystemGetDriverVersion(self):  # noqa: N802
        self._call("driver")
        return "580.1"

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        if uuid not in self.uuids:
            raise self.NVMLError("Not Found")
        return uuid

    def nvmlDeviceGetMemoryInfo(self, handle):  # noqa: N802
        self._call("memory")
        return SimpleNamespace(used=self.used.pop(0) if len(self.used) > 1 else self.used[0])

    def nvmlDeviceGetComputeRunningProcesses(self, handle):  # noqa: N802
        self._call("processes")
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.processes]


def sampled(nvml):
    """What a sampler that runs for a moment finds."""
    with NvmlSampler("abc", nvml=nvml, period=0.001, pid=PID) as sampler:
        time.sleep(0.02)
    assert nvml.open == 0
    return sampler


def test_the_peak_is_kept_over_the_whole_context():
    """The highest of many samples, for the process and for the device."""
    found = sampled(Nvml(used=[100, 900, 300], processes=[(1, 77), (PID, 55)]))
    assert (found.device, found.process, found.reasons) == (900, 55, {})


@pytest.mark.parametrize("processes", [(), ((1, 77),), ((PID, None),)], ids=["none", "others", "hidden"])
def test_a_process_that_is_not_listed_is_unknown_not_zero(processes):
    """Containers hide process ids, drivers hide usage: None with a reason, while the device is known."""
    found = sampled(Nvml(processes=processes))
    assert found.process is None
    assert "process" in found.reasons
    assert found.device == 100


@pytest.mark.parametrize(("call", "name"), [("memory", "device"), ("processes", "process")])
def test_what_the_part_does_not_support_is_unknown(call, name):
    """NotSupported on one question leaves the other answered."""
    found = sampled(Nvml(processes=[(PID, 55)], fails=[call]))
    assert getattr(found, name) is None
    assert "NVML" in found.reasons[name]
    assert len(found.reasons) == 1


def test_a_mig_slice_is_found_by_its_own_uuid():
    """A slice's UUID starts with MIG."""
    assert sampled(Nvml(uuids=("MIG-abc",), used=[7])).device == 7


@pytest.mark.parametrize("nvml", [Nvml(fails=["init"]), Nvml(uuids=("GPU-other",))], ids=["driver", "uuid"])
def test_without_driver_or_device_both_are_unknown(nvml):
    """No driver, or a GPU that NVML does not know: two reasons, no exception, nothing left open."""
    found = sampled(nvml)
    assert (found.process, found.device) == (None, None)
    assert set(found.reasons) == {"process", "device"}


def test_without_the_module_both_are_unknown(monkeypatch):
    """nvidia-ml-py is not there: the reason says so."""
    monkeypatch.setattr(
        "reroute_cli.measure.nvml.load_nvml", lambda: (_ for _ in ()).throw(ImportError("no"))
    )
    with NvmlSampler("abc") as sampler:
        pass
    assert "pynvml" in sampler.reasons["process"]
    assert driver_version() is None


def test_the_driver_version_is_asked_of_nvml():
    """The version where there is a driver, None where there is none."""
    assert driver_version(Nvml()) == "580.1"
    assert driver_version(Nvml(fails=["init"])) is None
