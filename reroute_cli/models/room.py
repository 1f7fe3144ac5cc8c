"""How many bytes are free for a model, and the refusal of one that has no room.

Knows the operating system's and the driver's counters; no model. Unknown is None, never 0.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from reroute_cli.console import units
from reroute_cli.console.errors import Failure

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")  # the limit of a container, where there is one
_GROUPS = (  # files of both generations: limit, use, and the counter of cache that can go
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)
_RUN = 1.1  # activations, cache and libraries need room beside the weights


def check_room(name: str, needed: int, device: str, dtype: str) -> None:
    """Refuse weights of `needed` bytes that the device's free memory can't hold (raises Failure)."""
    free = free_bytes(device)
    if free is None or needed * _RUN <= free:
        return
    where = "GPU memory" if device.startswith("cuda") else "host memory"
    smaller = "" if dtype != "float32" else "--dtype bfloat16, "
    raise Failure(
        f"'{name}' takes {units.size(needed)} of weights in {dtype} and a tenth more to run, and "
        f"{units.size(free)} of {where} are free: use {smaller}a smaller model or another --device"
    )


def free_bytes(device: str) -> int | None:
    """Free bytes on a torch device; None where nothing says how many."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    known: list[int] = []
    with suppress(OSError, ValueError):  # what Linux thinks can be had without swapping; others do not say
        told = [line.split() for line in _MEMINFO.read_text(encoding="ascii").splitlines()]
        known += [int(words[1]) * 1024 for words in told if words[:1] == ["MemAvailable:"]]
    # What this process's control group may still take; its file cache is given back when needed.
    for limit, used, cache in _GROUPS:
        try:
            most, now = int((_GROUP / limit).read_text("ascii")), int((_GROUP / used).read_text("ascii"))
            counters = (_GROUP / used).with_name("memory.stat").read_text("ascii").split()
            known.append(max(0, most - now + int(counters[counters.index(cache) + 1])))
            break
        except (OSError, ValueError):  # no such group, or its limit is the word 'max'
            continue
    return min(known, default=None)
