"""Free memory: read from what the system says, against files with known contents."""

import os

import pytest

from reroute_cli.console.errors import Failure
from reroute_cli.models import room

GIB = 2**30


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A machine whose files the test writes."""
    monkeypatch.setattr(room, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(room, "_GROUP", tmp_path)
    (tmp_path / "meminfo").write_text("MemTotal: 16777216 kB\nMemFree: 1024 kB\nMemAvailable: 8388608 kB\n")
    return tmp_path


def write(folder, **files):
    """Files of a control group."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(str(text))


def test_the_kernel_s_estimate_is_used(system):
    """What can be had without swapping, not what lies idle."""
    assert room.free_bytes("cpu") == 8 * GIB


def test_a_container_s_limit_counts_where_it_is_lower(system):
    """Limit less use, with the cache that can go; both generations of control groups."""
    write(
        system,
        memory__max=4 * GIB,
        memory__current=3 * GIB,
        memory__stat=f"anon 1\ninactive_file {GIB // 2}\n",
    )
    assert room.free_bytes("cpu") == 3 * GIB // 2
    (system / "memory.max").write_text("max")
    assert room.free_bytes("cpu") == 8 * GIB
    old = {"memory__limit_in_bytes": 2 * GIB, "memory__usage_in_bytes": GIB}
    write(system / "memory", **old, memory__stat="cache 5\ntotal_inactive_file 0\n")
    assert room.free_bytes("cpu") == GIB


def test_this_machine_has_free_memory_and_not_more_than_all():
    """The real files of the machine that runs the tests."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    free = room.free_bytes("cpu")
    assert free is None or 0 < free <= total


def test_weights_need_a_tenth_more_than_themselves(system):
    """8 GiB free: 7.2 fit, 7.5 do not; the sentence says what is needed, what there is and what to do."""
    room.check_room("x", int(7.2 * GIB), "cpu", "float32")
    with pytest.raises(Failure, match=r"'x' takes 7\.50 GiB .* 8\.00 GiB of host memory .* --dtype bfloat16"):
        room.check_room("x", int(7.5 * GIB), "cpu", "float32")


def test_a_smaller_dtype_is_only_proposed_where_there_is_one(system):
    """bfloat16 weights can't be halved again."""
    with pytest.raises(Failure) as caught:
        room.check_room("x", 9 * GIB, "cpu", "bfloat16")
    assert "--dtype" not in str(caught.value)


def test_a_gpu_is_asked_through_its_driver(monkeypatch):
    """The free part of what the driver reports for that very device."""
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: ({"cuda:1": 3}[device], 80))
    assert room.free_bytes("cuda:1") == 3


def test_where_nothing_is_known_nothing_is_refused(system, monkeypatch):
    """No counter at all: the attempt decides."""
    (system / "meminfo").unlink()
    assert room.free_bytes("cpu") is None
    room.check_room("x", 10**18, "cpu", "float32")
