"""Hooks that last as long as one block, on modules that may be compiled, copied or wrapped.

A hook placed here never becomes part of a graph of torch.compile: what is hooked runs eagerly, and whatever
was compiled below the hooks runs as it was compiled. Copies of a module share its hooks and lose them when
the block ends, like the module itself. Knows no model.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, NoReturn, TypeVar, cast

import torch
from torch import nn

from routing.errors import RoutingError
from routing.host import compiled_call, hooks_of, set_compiled_call

Call = TypeVar("Call", bound=Callable[..., Any])


def _outside_of_graphs(call: Call) -> Call:
    """The same function, which runs eagerly between the graphs of whatever is compiled around it.

    Dynamo, more than a second of imports, is asked only where somebody has loaded it to compile something.
    """
    eager: list[Callable[..., Any]] = []

    @wraps(call)
    def run(*args: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return call(*args)
        if not eager:
            eager.append(torch.compiler.disable(call))  # type: ignore[no-untyped-call]
        return eager[0](*args)

    return cast("Call", run)


class Hook:
    """One hook of one block. Deep copies of a module share it; with the block it falls silent in all.

    routes: its block routes the model.
    """

    def __init__(self, call: Callable[..., Any], *, routes: bool = False) -> None:
        self._call: Callable[..., Any] | None = call
        self.routes = routes

    @property
    def heard(self) -> bool:
        """Whether its block still lasts."""
        return self._call is not None

    def silence(self) -> None:
        """Do nothing from now on, and hold nothing of the block."""
        self._call = None

    @_outside_of_graphs
    def __call__(self, *args: Any) -> Any:
        """What torch calls; None changes nothing."""
        return None if self._call is None else self._call(*args)

    def __deepcopy__(self, _memo: dict[int, Any]) -> Hook:
        return self

    def __reduce__(self) -> NoReturn:
        raise RoutingError(
            "a routed model can't be pickled, saved whole or sent to another process: leave the `with` first "
            "and route it where it runs"
        )


class Hooks(ExitStack):
    """All hooks of one block. routes: of one that routes a model.

    Graphs that were compiled before do not see hooks that are placed later. So, where dynamo is loaded, the
    whole process runs eagerly until the block ends, but for compiled modules that hold no hook.
    """

    def __init__(self, *, routes: bool = False) -> None:
        super().__init__()
        self._routes = routes
        self._hooked: set[nn.Module] = set()
        self._compiled: set[nn.Module] = set()

    def before(self, module: Any, hook: Callable[..., Any]) -> None:
        """hook(module, args, kwargs) -> new (args, kwargs), or None for the same."""
        placed = self._placed(module, hook)
        self.callback(module.register_forward_pre_hook(placed, with_kwargs=True).remove)

    def after(
        self, module: Any, hook: Callable[..., Any], *, always: bool = False, kwargs: bool = False
    ) -> None:
        """hook(module, args, output) -> new output, or None for the same.

        always: after exceptions too. kwargs: hook(module, args, kwargs, output).
        """
        placed = self._placed(module, hook)
        handle = module.register_forward_hook(placed, always_call=always, with_kwargs=kwargs)
        self.callback(handle.remove)

    def _placed(self, module: Any, hook: Callable[..., Any]) -> Hook:
        self._hooked.add(module)
        placed = Hook(hook, routes=self._routes)
        self.callback(placed.silence)
        return placed

    def around(self, module: Any, before: Callable[..., Any], after: Callable[..., Any]) -> None:
        """Both; a compiled module keeps its graphs, which see neither."""
        if compiled_call(module) is None:
            self.before(module, before)
            self.after(module, after)
        else:
            self._wrap(module, before, after)

    def keep_compiled(self, module: nn.Module) -> None:
        """Place the last hooks: eager from now on, but for what is compiled in `module` and holds no hook."""
        if "torch._dynamo" not in sys.modules:
            return
        self.enter_context(_eager())
        waiting = [module]
        while waiting:
            part = waiting.pop()
            if part in self._compiled:
                continue
            if compiled_call(part) is None or not self._hooked.isdisjoint(part.modules()):
                waiting.extend(part.children())
            else:
                self._wrap(part)

    def _wrap(
        self,
        module: nn.Module,
        before: Callable[..., Any] | None = None,
        after: Callable[..., Any] | None = None,
    ) -> None:
        compiled = compiled_call(module)
        assert compiled is not None

        def call(*args: Any, **kwargs: Any) -> Any:
            if before is not None:
                args, kwargs = before(module, args, kwargs) or (args, kwargs)
            with _compiling():
                output = compiled(*args, **kwargs)
            changed = None if after is None else after(module, args, output)
            return output if changed is None else changed

        self._compiled.add(module)
        set_compiled_call(module, call)
        self.callback(set_compiled_call, module, compiled)


def is_routed(module: Any) -> bool:
    """Whether a block that still lasts routes a model by hooks on `module`."""
    return any(isinstance(hook, Hook) and hook.heard and hook.routes for hook in hooks_of(module))


def is_watched(module: Any) -> bool:
    """Whether anyone's hook would see `module` run."""
    return any(not isinstance(hook, Hook) or hook.heard for hook in hooks_of(module))


class _Stance:
    """How torch.compile's products run: dynamo has one stance for the whole process."""

    lock = threading.Lock()
    blocks = 0
    eager: Any = None  # sets it on __enter__, and what the user had set on __exit__


@contextmanager
def _eager() -> Iterator[None]:
    """Whatever was compiled runs eagerly, until the last block ends."""
    with _Stance.lock:
        if not _Stance.blocks:
            _Stance.eager = torch.compiler.set_stance("force_eager")
        _Stance.blocks += 1
    try:
        yield
    finally:
        with _Stance.lock:
            _Stance.blocks -= 1
            if not _Stance.blocks:
                _Stance.eager.__exit__(None, None, None)


@contextmanager
def _compiling() -> Iterator[None]:
    """Compiled again, for the time of one call."""
    _Stance.eager.__exit__(None, None, None)
    try:
        yield
    finally:
        _Stance.eager.__enter__()


class Scoring(nn.Module):
    """Runs what choosing visual tokens computes, at the tower, at the decoder's entrance or in a layer.

    A module only so that profilers that attribute work to modules show under its own name what it costs
    beside the model's own work.
    """

    def forward(self, work: Callable[[], Any]) -> Any:
        """The result of `work`."""
        return work()
