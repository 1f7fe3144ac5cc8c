"""The way to a cluster: one that runs already, or one of this machine alone, begun when it is first needed.

And where Ray's own words go: not to stdout, which is the records', nor to stderr unless somebody wants them.
Ray prints on both streams, from Python as from C++, and has no switch for all of it. What its processes write
is in files of its own (/tmp/ray) in any case. Knows how to begin, to join and to leave; not what the cluster
is for.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from reroute_cli.console.errors import CliError, Failure
from reroute_cli.integrations.ray.pool import (
    Node,
)

_STDERR = 2
_PATIENCE = 5.0  # seconds for the head node to take a call
_SILENT = logging.CRITICAL + 1
_SETTINGS, _FRAME_HEADER = 4, 9  # RFC 9113, 3.4 and 4.1: the first frame of either side, and a header's bytes
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, _SETTINGS, 0, 0, 0, 0, 0])


class ClusterConnection:
    """`with ClusterConnection(address, verbose) as connection`: nothing happens before `nodes` is called.

    address: of a running cluster's head node ('auto': the one that this machine is a node of); None begins a
    cluster of this machine, which ends with the connection. Where the calling program has begun Ray already,
    that is used, and left running.
    """

    def __init__(self, address: str | None, *, verbose: bool = False) -> None:
        self.address = address or os.environ.get("RAY_ADDRESS") or None
        self.verbose = verbose
        self._open = ExitStack()
        self._ray: Any = None

    def __enter__(self) -> ClusterConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @property
    def ray(self) -> Any:
        """The module, connected; raises Failure where that can't be."""
        if self._ray is not None:
            return self._ray
        ray = _module()
        if not ray.is_initialized():
            if self.address is not None:
                _check_address(self.address)
            self._open.callback(ray.shutdown)
            settings: dict[str, Any] = {
                "address": self.address or "local",
                "log_to_driver": self.verbose,
                "logging_level": logging.INFO if self.verbose else _SILENT,
            }
            try:
                ray.init(**settings if self.address else settings | {"include_dashboard": False})
            except Exception as error:
                reason = _first_line(error)
                if self.address is None:
                    raise Failure(f"Ray can't begin on this machine: {reason}") from error
                raise Failure(
                    f"--ray-address '{self.address}' can't be joined ({reason}): {_CHECK}"
                ) from error
        self._ray = ray
        return ray

    def nodes(self) -> list[Node]:
        """The machines that are alive now."""
        try:
            found = [node for node in self.ray.nodes() if node["Alive"]]
        except CliError:
            raise
        except Exception as error:
            raise Failure(f"the cluster can't be asked any more: {_first_line(error)}") from error
        return [
            Node(node["NodeID"], node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
            for node in found
        ]

    def own_node(self) -> str:
        """The node that the driver is on, where the images are."""
        return str(self.ray.get_runtime_context().get_node_id())


def _module() -> Any:
    """Ray, with what it reads when it is first loaded; raises Failure where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent unless somebody wants it
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # a thread that comes late begins no cluster
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of a future default
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise Failure(
            f"--engine ray needs Ray Data ({error}): pip install 'reroute[ray]', on every node of the cluster"
        ) from error
    return ray


def _check_address(address: str) -> None:
    """Refuse an address that is none, or where nobody takes a call (raises Failure), within seconds."""
    if address == "auto":
        return
    if "://" in address:
        raise Failure(f"--ray-address '{address}' {_NO_CLIENT}")
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise Failure(f"--ray-address '{address}' is none: give HOST:PORT of the head node, or auto")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE) as call:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return
            # Say hello in HTTP/2, as Ray does: joining anything else takes minutes to fail.
            call.sendall(_HELLO)
            frame = call.recv(_FRAME_HEADER)
            if len(frame) < _FRAME_HEADER or frame[3] != _SETTINGS:
                raise OSError("what answers there is not Ray")
    except OSError as error:
        reason = error.strerror or str(error)
        raise Failure(f"--ray-address '{address}' can't be reached ({reason}): {_CHECK}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


_CHECK = "check that a Ray cluster of the same version runs there and that this machine is one of its nodes"
_NO_CLIENT = (
    "is of Ray Client, whose driver is outside of the cluster: run the command on a node of it, with "
    "HOST:PORT or auto"
)


@contextmanager
def apart(*, verbose: bool) -> Iterator[TextIO]:
    """While the block runs stdout is the stream that this gives, and `print` goes to stderr, or nowhere.

    Unless verbose, what C++ writes to stderr goes nowhere as well; `sys.stderr` stays what it was.
    """
    stdout = sys.stdout
    with ExitStack() as stack:
        nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
        if not verbose:
            stack.enter_context(_native_stderr_to(nowhere))
        stack.enter_context(redirect_stdout(sys.stderr if verbose else nowhere))
        yield stdout


@contextmanager
def _native_stderr_to(nowhere: TextIO) -> Iterator[None]:
    """Descriptor 2 leads nowhere; a `sys.stderr` that wrote to it goes on with a copy."""
    try:
        kept = os.dup(_STDERR)
    except OSError:  # the caller closed it: there is nothing to keep quiet
        yield
        return
    with ExitStack() as stack:
        stack.callback(os.close, kept)
        descriptor = None
        with suppress(OSError, ValueError):  # a stream of a test, or a closed one
            descriptor = sys.stderr.fileno()
        if descriptor == _STDERR:
            copy = os.fdopen(
                kept, "w", encoding=sys.stderr.encoding, errors="backslashreplace", closefd=False
            )
            stack.enter_context(redirect_stderr(copy))
        os.dup2(nowhere.fileno(), _STDERR)
        stack.callback(os.dup2, kept, _STDERR)
        yield
