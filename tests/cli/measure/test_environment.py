"""What is said of a machine: plain, the same each time, and enough to tell machines apart without torch."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from reroute_cli.measure import environment as module
from reroute_cli.measure.environment import describe_environment

ROOT = Path(__file__).resolve().parents[3]


def card(name, **more):
    """What torch says of a GPU."""
    return SimpleNamespace(**{"name": name, "total_memory": 80 << 30, "major": 9, "minor": 0, **more})


@pytest.fixture
def cards(monkeypatch):
    """Let torch see two GPUs."""
    found = [card("NVIDIA H100", uuid="abc"), card("NVIDIA L4", total_memory=24 << 30)]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(found))
    monkeypatch.setattr(torch.cuda, "get_device_properties", found.__getitem__)


def test_the_description_is_plain_json(cards):
    """Written and read back it is the same dict: no enum, no tuple, no object of torch in it."""
    found = describe_environment()
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_description_is_the_same_every_time():
    """Two reports of one machine and one checkout describe the same environment."""
    assert describe_environment() == describe_environment()


def test_the_machine_is_in_the_description(cards, monkeypatch):
    """Processor, cores, torch's threads, and the GPUs by name and size are under fixed names."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    found = describe_environment()
    assert found["cpu"] == {"model": module._cpu_model(), "cores": os.cpu_count(), "torch_threads": 7}
    assert [(gpu["name"], gpu["memory_bytes"]) for gpu in found["gpus"]] == [
        ("NVIDIA H100", 80 << 30),
        ("NVIDIA L4", 24 << 30),
    ]
    assert [gpu["uuid"] for gpu in found["gpus"]] == ["abc", None]
    assert found["gpus"][0]["capability"] == "9.0"


def test_the_processor_s_name_is_the_kernel_s(monkeypatch, tmp_path):
    """The first model name of /proc/cpuinfo, else the architecture; without it the platform's."""
    listed = tmp_path / "cpuinfo"
    monkeypatch.setattr(module, "Path", lambda _: listed)
    monkeypatch.setattr(module.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(module.platform, "processor", lambda: "arm")
    assert module._cpu_model() == "arm"
    listed.write_text("processor : 0\nBogoMIPS : 50\n")
    assert module._cpu_model() == "aarch64"
    listed.write_text("processor : 0\nmodel name\t: Fast CPU: 3 GHz\nmodel name\t: other\n")
    assert module._cpu_model() == "Fast CPU: 3 GHz"


def test_the_commit_is_this_checkout_s_whatever_git_s_own_variables_say(monkeypatch, tmp_path):
    """Within another repository's hook GIT_DIR points there; the commit is still that of the running code."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    head = subprocess.check_output(["git", "-C", str(ROOT), "rev-parse", "HEAD"], text=True).strip()
    subprocess.check_call(["git", "init", "-q", str(tmp_path)])
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))
    assert module._commit().rstrip("+") == head


@pytest.mark.parametrize(
    "error",
    [subprocess.TimeoutExpired("git", 10), subprocess.CalledProcessError(128, "git"), PermissionError()],
)
def test_a_git_that_fails_leaves_the_commit_unknown(monkeypatch, error):
    """A git that hangs, refuses the folder's owner or can't be run is no error of ours."""

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(module.subprocess, "run", fail)
    assert module._commit() is None


def test_reading_a_description_needs_no_torch():
    """The module is imported without torch and without NVML; only describing asks them."""
    code = (
        "import sys; sys.modules['torch'] = sys.modules['pynvml'] = None\n"
        "from reroute_cli.measure.environment import installed_version\n"
        "print(installed_version('reroute'), installed_version('no-such-package'))"
    )
    said = subprocess.check_output([sys.executable, "-c", code], text=True).split(maxsplit=1)
    assert said[1].strip() == "not installed"
