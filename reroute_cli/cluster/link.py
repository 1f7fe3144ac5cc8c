"""The way to a cluster: one that runs already, or one of this machine alone, begun when it is first needed.

Knows how to begin, to join and to leave; not what the cluster is for.
"""

from __future__ import annotations

import logging
import os
import socket
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from reroute_cli.cluster.crew import Node
from reroute_cli.console.errors import CliError, Failure

_PATIENCE = 5.0  # seconds for the head node to take a call
_SILENT = logging.CRITICAL + 1
_SETTINGS, _FRAME_HEADER = 4, 9  # RFC 9113, 3.4 and 4.1: the first frame of either side, and a header's bytes
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, _SETTINGS, 0, 0, 0, 0, 0])


class Link:
    """`with Link(address, verbose) as link`: nothing happens before `nodes` is called.

    address: of a running cluster's head node ('auto': the one that this machine is a node of); None begins a
    cluster of this machine, which ends with the link. Where the calling program has begun Ray already, that
    is used, and left running.
    """

    def __init__(self, address: str | None, *, verbose: bool = False) -> None:
        self.address = address or os.environ.get("RAY_ADDRESS") or None
        self.verbose = verbose
        self._open = ExitStack()
        self._ray: Any = None

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @property
    def ray(self) -> Any:
        """The module, connected; raises Failure where that can't be."""
        if self._ray is None:
            self._ray = self._connected()
        return self._ray

    def nodes(self) -> list[Node]:
        """The machines that are alive now."""
        try:
            found = [node for node in self.ray.nodes() if node["Alive"]]
        except CliError:
            raise
        except Exception as error:
            raise Failure(f"the cluster can't be asked any more: {_first_line(error)}") from error
        return [_node(node["NodeID"], node["Resources"]) for node in found]

    def own_node(self) -> str:
        """The node that the driver is on, where the pictures are."""
        return str(self.ray.get_runtime_context().get_node_id())

    def _connected(self) -> Any:
        _tame()
        ray = _module()
        if ray.is_initialized():
            return ray
        if self.address is not None:
            _check_address(self.address)
        self._open.callback(ray.shutdown)
        try:
            ray.init(**self._settings())
        except Exception as error:
            raise Failure(_why(self.address, error)) from error
        return ray

    def _settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "address": self.address or "local",
            "log_to_driver": self.verbose,
            "logging_level": logging.INFO if self.verbose else _SILENT,
        }
        return settings if self.address else settings | {"include_dashboard": False}


def _tame() -> None:
    """What Ray reads when it is first loaded. No statistics of use are sent, unless somebody wants that."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # a thread that comes late begins no cluster
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of a future default


def _module() -> Any:
    """Ray; raises Failure where it is not installed."""
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
            _greet(call)
    except OSError as error:
        reason = error.strerror or str(error)
        raise Failure(f"--ray-address '{address}' can't be reached ({reason}): {_CHECK}") from error


def _greet(call: socket.socket) -> None:
    """Say hello in HTTP/2, as Ray does: joining anything else takes minutes to fail (raises OSError)."""
    if os.environ.get("RAY_USE_TLS", "0") != "0":
        return
    call.sendall(_HELLO)
    frame = call.recv(_FRAME_HEADER)
    if len(frame) < _FRAME_HEADER or frame[3] != _SETTINGS:
        raise OSError("what answers there is not Ray")


def _why(address: str | None, error: Exception) -> str:
    """What Ray raised when it was to begin or to join, as one sentence."""
    reason = _first_line(error)
    if address is None:
        return f"Ray can't begin on this machine: {reason}"
    return f"--ray-address '{address}' can't be joined ({reason}): {_CHECK}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _node(identity: str, resources: dict[str, float]) -> Node:
    return Node(identity, resources.get("CPU", 0.0), resources.get("GPU", 0.0))


_CHECK = "check that a Ray cluster of the same version runs there and that this machine is one of its nodes"
_NO_CLIENT = (
    "is of Ray Client, whose driver is outside of the cluster: run the command on a node of it, with "
    "HOST:PORT or auto"
)
