"""A second device without a GPU: tensors that say they are on "cuda:0" and are on the CPU.

What no CPU run shows is noted: a function that gets tensors of both devices, which a GPU refuses, and each
call for which the host waits until the device has done its work (reading a value, a shape that depends on
values, a copy between devices that is not asynchronous). Which kernels a GPU chooses, how they round and how
long they take is not shown.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("cuda:0")
_READS = {"item", "tolist", "numpy", "__bool__", "__int__", "__float__", "__index__", "equal", "__contains__"}
_TO_HOST, _TO_CARD = {"cpu"}, {"cuda"}
_SHAPES = {"nonzero", "masked_select", "_unique2", "_local_scalar_dense", "is_nonzero", "equal"}
_CPU_CHECKS = {"quantile"}  # reads values on the CPU alone
_ROOT = Path(__file__).resolve().parents[2]
_OURS = tuple(str(_ROOT / name) for name in ("routing", "reroute_cli"))
_TRUTHS = str(_ROOT / "routing" / "checks")  # read what came out
_TORCH = str(Path(torch.__file__).parent)


class TwoDevicesError(RuntimeError):
    """A function got tensors of both devices."""


@dataclass
class Waits:
    """FILE:LINE FUNCTION of every call for which the host waited: of our own code, and of all other."""

    ours: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


class _Watch:
    """Whose waits are noted now; None: nobody's."""

    waits: Waits | None = None


def _wait(name: str) -> None:
    """Note the innermost line outside of torch and of this file."""
    if _Watch.waits is None:
        return
    frame = sys._getframe(1)
    while frame.f_code.co_filename == __file__ or frame.f_code.co_filename.startswith(_TORCH):
        assert frame.f_back is not None
        frame = frame.f_back
    path = frame.f_code.co_filename
    ours = path.startswith(_OURS) and not path.startswith(_TRUTHS)
    line = f"{path.removeprefix(str(_ROOT) + '/')}:{frame.f_lineno} {name}"
    (_Watch.waits.ours if ours else _Watch.waits.others).append(line)


class Pretended(Tensor):
    """A tensor of the pretended device."""

    device = DEVICE  # type: ignore[assignment]

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _carried_out(func, args, kwargs or {})


class _Factories(TorchFunctionMode):
    """Functions that are told of a device, and those that plain tensors call."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _carried_out(func, args, kwargs or {})


class _Shapes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Operators within functions that wait on every device: shapes and branches that depend on values."""

    function: str | None = None  # of pretended tensors, under way

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if self.function is not None and name in _SHAPES:
            _wait(f"{self.function} ({name})")
        return func(*args, **(kwargs or {}))


_SHAPES_SEEN = _Shapes()


def on_card(value: Any) -> Any:
    """Tensors, also within dicts, lists and tuples, on the pretended device."""
    return _each(lambda one: one.as_subclass(Pretended) if isinstance(one, Tensor) else one, value)


def _on_host(value: Any) -> Any:
    return _each(lambda one: one.as_subclass(Tensor) if isinstance(one, Pretended) else one, value)


def _each(change: Callable[[Any], Any], value: Any) -> Any:
    return tree_map(change, value, is_leaf=lambda one: isinstance(one, torch.Size))


def _target(func: Any, args: Any, kwargs: dict[str, Any]) -> torch.device | None:
    """The device that a function is told to make its result on; None where it is told none."""
    name = getattr(func, "__name__", "")
    if name in _TO_HOST | _TO_CARD and args and isinstance(args[0], Tensor):
        return torch.device("cpu") if name in _TO_HOST else DEVICE
    told = kwargs.get("device")
    if told is None and name in ("to", "type_as"):
        told = next((a.device if isinstance(a, Tensor) else a for a in args[1:] if _names_device(a)), None)
        other = kwargs.get("other")
        told = other.device if isinstance(other, Tensor) else told
    return None if told is None else torch.device(told)


def _names_device(value: Any) -> bool:
    return isinstance(value, Tensor | torch.device | str)


def _carried_out(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The result of a function of torch, on the device on which a GPU would make it."""
    name = getattr(func, "__name__", str(func))
    if name == "__get__":  # a property
        with torch._C.DisableTorchFunctionSubclass():
            found = func(*args, **kwargs)
        return on_card(found) if isinstance(args[0], Pretended) else found
    leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    card = [leaf for leaf in leaves if isinstance(leaf, Pretended)]
    host = [leaf for leaf in leaves if not isinstance(leaf, Pretended)]
    target = _target(func, args, kwargs)
    moves = target is not None and leaves and (target.type == "cuda") != isinstance(leaves[0], Pretended)
    if moves and not kwargs.get("non_blocking", False):
        _wait(name)
    if name == "tensor" and target is not None and target.type == "cuda":
        _wait(name)
    if card and name in _READS:
        _wait(name)
    if card:
        _check_mix(name, args, kwargs, host)
    result = _run(func, args, kwargs, target, bool(card))
    if target is None and args and result is args[0]:  # written in place
        return result
    placed = bool(card) if target is None else target.type == "cuda"
    return on_card(_on_host(result)) if placed else _on_host(result)


def _check_mix(name: str, args: Any, kwargs: dict[str, Any], host: list[Tensor]) -> None:
    """Refuse what a GPU refuses; note what it does by waiting: indices and values that come from the host."""
    if name in ("__getitem__", "__setitem__", "index_put_", "index_put"):
        index = [leaf for leaf in tree_leaves(args[1]) if isinstance(leaf, Tensor)]
        masked = any(leaf.dtype == torch.bool for leaf in index)
        if any(not isinstance(leaf, Pretended) for leaf in index):
            _wait(f"{name} by indices of the host")
        value = args[2] if len(args) > 2 else None
        number = value is not None and (not isinstance(value, Tensor) or value.ndim == 0)
        if masked and not (number and len(index) == 1):
            _wait(f"{name} by a mask")
        elif index and value is not None and not isinstance(value, Pretended) and not masked:
            _wait(f"{name} of a value of the host")
        return
    if name in ("copy_", "to", "type_as", "as_subclass", "set_data"):
        if name == "copy_" and host and not kwargs.get("non_blocking", False):
            _wait(name)
        return
    if any(leaf.ndim for leaf in host):
        raise TwoDevicesError(f"{name} of tensors on {DEVICE} and on the CPU")


def _run(func: Any, args: Any, kwargs: dict[str, Any], target: torch.device | None, card: bool) -> Any:
    name = getattr(func, "__name__", str(func))
    told = dict(kwargs)
    if target is not None and target.type == "cuda" and "device" in told:
        told["device"] = "cpu"
    if name in ("to", "cuda"):
        kept = [a for a in args[1:] if not isinstance(a, torch.device | str)]
        args = (args[0], *(kept if name == "to" else ()))
        if not kept and not told:
            return args[0].clone() if isinstance(args[0], Tensor) else args[0]
    before, _SHAPES_SEEN.function = _SHAPES_SEEN.function, name if card else None
    if name in _READS | _CPU_CHECKS:
        _SHAPES_SEEN.function = None
    try:
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **told)
    finally:
        _SHAPES_SEEN.function = before


@contextmanager
def pretending() -> Iterator[Waits]:
    """Tensors and modules that are told to be on "cuda:0" are pretended there; yields the waits from here."""
    waits = Waits()
    before, _Watch.waits = _Watch.waits, waits
    try:
        with mock.patch.object(nn.Module, "to", _to), _SHAPES_SEEN, _Factories():
            yield waits
    finally:
        _Watch.waits = before


_PLAIN_TO = nn.Module.to


def _to(model: nn.Module, *given: Any) -> nn.Module:
    """A module with its weights and buffers on the pretended device, or as another type of number."""
    rest = [one for one in given if not isinstance(one, str | torch.device)]
    if rest:
        _PLAIN_TO(model, *rest)
    if len(rest) == len(given):
        return model
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(on_card(weight.data), requires_grad=False))
        for name, buffer in list(module.named_buffers(recurse=False)):
            module._buffers[name] = on_card(buffer)
    return model
