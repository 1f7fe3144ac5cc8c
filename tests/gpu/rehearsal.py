"""What the steps do on a card, rehearsed without one: a pretended device, and a card that answers torch.

So every line that runs on a GPU alone has run before: names, arguments and shapes are right. Its numbers mean
nothing, and no bound on them is looked at.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch

from reroute_cli.models import dummy
from tests.cli.measure.fake_nvml import Driver
from tests.gpu.pretend import pretending

CYCLES_A_SECOND = 1e9
_CARD = SimpleNamespace(name="pretended", total_memory=10**11, major=9, minor=0, uuid="abc")


class Event:
    """An event of a stream that has always done all its work."""

    def __init__(self, enable_timing: bool = False) -> None:
        self.at = 0.0

    def record(self, stream: Any = None) -> None:
        """Now."""
        self.at = time.perf_counter()

    def elapsed_time(self, other: Event) -> float:
        """Milliseconds."""
        return 1e3 * (other.at - self.at)


class CardDriver(Driver):
    """The driver of the tests, which also knows of slices and power."""

    def nvmlDeviceGetMigMode(self, _card: Any, current: Any, pending: Any) -> int:  # noqa: N802
        """No slices."""
        current._obj.value = pending._obj.value = 0
        return 0

    def nvmlDeviceGetPowerUsage(self, _card: Any, milliwatts: Any) -> int:  # noqa: N802
        """700 W."""
        milliwatts._obj.value = 700_000
        return 0


_ANSWERS = {
    "is_available": lambda: True,
    "is_bf16_supported": lambda *_: True,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "get_device_properties": lambda _device: _CARD,
    "mem_get_info": lambda *_: (10**11, 10**11),
    "synchronize": lambda *_: None,
    "empty_cache": lambda: None,
    "current_stream": lambda *_: None,
    "reset_peak_memory_stats": lambda *_: None,
    "max_memory_allocated": lambda *_: 1 << 30,
    "max_memory_reserved": lambda *_: 1 << 30,
    "get_sync_debug_mode": lambda: 0,
    "set_sync_debug_mode": lambda _mode: None,
    "_sleep": lambda cycles: time.sleep(cycles / CYCLES_A_SECOND),
    "Event": Event,
}


@contextmanager
def rehearsed() -> Iterator[None]:
    """Torch has a card."""
    build = dummy.build_model

    def moved(name: str, config: Any, settings: dict[str, Any], device: str, seed: int) -> Any:
        return build(name, config, settings, "cpu", seed).to(device)

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(dummy, "build_model", moved))
        for name, answer in _ANSWERS.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, answer))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        CardDriver(patch, used=[100, 200], processes=[(os.getpid(), 55)])
        stack.enter_context(pretending())
        yield
