"""Memory numbers against known allocations."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from reroute_cli.measure import memory as module
from reroute_cli.measure.memory import TorchPeaks, host_peak_rss, weights_bytes


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


def peak_of_a_child(touched):
    """The peak that a fresh interpreter reports of itself after touching this many bytes and freeing them."""
    code = (
        "from reroute_cli.measure.memory import host_peak_rss\n"
        f"block = bytearray({touched})\n"
        "block[::4096] = b'x' * len(block[::4096])\n"
        "del block\n"
        "print(host_peak_rss())"
    )
    return int(subprocess.check_output([sys.executable, "-c", code], text=True))


def test_peak_rss_is_what_was_touched_and_outlives_it():
    """A child that touches 200 MiB and frees them shows 200 MiB more than one that does not."""
    assert 195 << 20 < peak_of_a_child(200 << 20) - peak_of_a_child(0) < 215 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands a parent's peak on")
def test_peak_rss_is_not_the_parent_s():
    """A small program started by a large one is small: getrusage would report the large one's peak."""
    block = torch.ones((150 << 20) // 4)
    assert peak_of_a_child(0) < 100 << 20 < block.nbytes < host_peak_rss()


def test_where_linux_s_own_list_is_missing_getrusage_answers(monkeypatch, tmp_path):
    """Without the list, or the line in it, POSIX's peak counts: KiB on Linux, bytes on macOS, or None."""
    status = tmp_path / "status"
    monkeypatch.setattr(module, "_STATUS", status)
    resource = SimpleNamespace(getrusage=lambda _: SimpleNamespace(ru_maxrss=5), RUSAGE_SELF=0)
    monkeypatch.setitem(sys.modules, "resource", resource)
    for platform, peak in (("linux", 5120), ("darwin", 5)):
        monkeypatch.setattr(module.sys, "platform", platform)
        assert host_peak_rss() == peak
    status.write_text("Name: python\n")
    assert host_peak_rss() == 5
    status.write_text("Name: python\nVmHWM:\t    8712 kB\n")
    assert host_peak_rss() == 8712 * 1024
    monkeypatch.setitem(sys.modules, "resource", None)
    status.unlink()
    assert host_peak_rss() is None


def test_without_a_gpu_torch_peaks_are_unknown():
    """On the CPU torch's counters say 0; the answer is None."""
    with TorchPeaks("cpu") as peaks:
        pass
    assert (peaks.allocated, peaks.reserved) == (None, None)


def test_on_a_gpu_the_peaks_are_those_since_the_reset(monkeypatch):
    """Both peaks of the device that was named, after waiting for it, and the reset comes when it is idle."""
    calls = []

    def answering(name, answer=None):
        monkeypatch.setattr(torch.cuda, name, lambda device: calls.append((name, device)) or answer)

    answering("synchronize")
    answering("reset_peak_memory_stats")
    answering("max_memory_allocated", 10)
    answering("max_memory_reserved", 20)
    with TorchPeaks("cuda:1") as peaks:
        calls.append(("work", "cuda:1"))
    assert (peaks.allocated, peaks.reserved) == (10, 20)
    names = ["synchronize", "reset_peak_memory_stats", "work", "synchronize", "max_memory_allocated"]
    assert calls == [(name, "cuda:1") for name in (*names, "max_memory_reserved")]
