"""What choosing makes torch do, watched operator by operator."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.routing.test_prefill_economy import WAITING


class Waits(TorchDispatchMode):
    """Remembers operators that make the host wait for a device: values read, shapes that depend on values."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        by_mask = name == "index" and any(one.dtype == torch.bool for one in args[1] if one is not None)
        if by_mask or name in WAITING:
            self.seen.add(name)
        return func(*args, **(kwargs or {}))


class Kernels(TorchDispatchMode):
    """How many operators run, and the most numbers that one of them makes."""

    def __init__(self) -> None:
        super().__init__()
        self.ran = self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.ran += 1
        if isinstance(made, torch.Tensor):
            self.largest = max(self.largest, made.untyped_storage().nbytes() // made.element_size())
        return made
