"""How many workers a cluster gets, and how many CPUs and GPUs each: arithmetic over its nodes.

Knows numbers of CPUs and GPUs; not Ray.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reroute_cli.console.errors import Failure, UsageError

DEVICES = ("auto", "cpu", "cuda", "mps")
_ROUNDING = 1e-6  # 3 × 0.3333 is no more than a GPU


@dataclass(frozen=True)
class Node:
    """A machine of the cluster that is alive, and what Ray may use of it."""

    id: str
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Wishes:
    """What was typed; None where nothing was."""

    workers: int | None = None
    gpus_per_worker: float | None = None

    def check(self, device: str) -> None:
        """Refuse what can't be meant on any cluster (raises UsageError)."""
        if device not in DEVICES:
            allowed = f"none of {', '.join(DEVICES)}: choose one; Ray numbers the GPUs of each worker itself"
            raise UsageError(f"--device '{device}' with --engine ray is {allowed}")
        gpus = self.gpus_per_worker
        if gpus is None:
            return
        if not (gpus > 0 and math.isfinite(gpus)) or (gpus > 1 and gpus != int(gpus)):
            raise UsageError(f"--gpus-per-worker {gpus}: give a share of one GPU (0.5) or a whole number")
        if device in ("cpu", "mps"):
            raise UsageError(f"--gpus-per-worker {gpus} has no use with --device {device}: drop one of them")


@dataclass(frozen=True)
class Crew:
    """So many workers, with so many CPUs and GPUs each."""

    workers: int
    cpus: int
    gpus: float

    def left(self, nodes: Sequence[Node]) -> Crew:
        """As many of these workers as the nodes that are left have room for (raises Failure for none)."""
        room = room_for(nodes, self.cpus, self.gpus)
        if not room:
            raise Failure(
                f"no node that is left has room for a worker ({_size(self.cpus, self.gpus)}): the records so "
                "far are safe, so start the same command again when there is one"
            )
        return replace(self, workers=min(self.workers, room))


def device_of(asked: str, nodes: Sequence[Node]) -> str:
    """The device of every worker; 'auto' is cuda where Ray knows of a GPU (raises Failure without one)."""
    gpus = any(node.gpus for node in nodes)
    if asked == "cuda" and not gpus:
        raise Failure(f"--device cuda: Ray knows of no GPU on {_count(nodes)}: use --device cpu")
    return asked if asked != "auto" else "cuda" if gpus else "cpu"


def make_crew(nodes: Sequence[Node], wishes: Wishes, device: str) -> Crew:
    """The workers for these nodes; raises Failure where they have no room for those that were asked for.

    By default one worker for each GPU, or as many as --gpus-per-worker fit; without GPUs one for each node.
    The CPUs are shared out evenly.
    """
    gpus = 0.0 if device != "cuda" else wishes.gpus_per_worker or 1.0
    if device != "cuda" and wishes.gpus_per_worker is not None:
        raise Failure(f"--gpus-per-worker {wishes.gpus_per_worker}: Ray knows of no GPU on {_count(nodes)}")
    room = room_for(nodes, 1, gpus)
    asked = wishes.workers or (room if gpus else sum(node.cpus >= 1 for node in nodes)) or 1
    if room < asked:
        raise Failure(
            f"{_asked(asked)} {'needs' if asked == 1 else 'need'} {_size(1, gpus)} each, and {_count(nodes)} "
            f"{'has' if len(nodes) == 1 else 'have'} room for {room}: ask for fewer --workers, or add nodes"
        )
    most = int(max(node.cpus for node in nodes))
    cpus = next(count for count in range(most, 0, -1) if room_for(nodes, count, gpus) >= asked)
    return Crew(asked, cpus, gpus)


def room_for(nodes: Sequence[Node], cpus: int, gpus: float) -> int:
    """How many workers of this size fit; none is spread over two nodes, nor a share over two GPUs."""
    return sum(min(int(node.cpus // cpus), _by_gpu(node, gpus)) for node in nodes)


def _by_gpu(node: Node, gpus: float) -> int:
    if not gpus:
        return int(node.cpus)
    if gpus < 1:
        return int(node.gpus) * int(1 / gpus + _ROUNDING)
    return int(node.gpus / gpus + _ROUNDING)


def _size(cpus: int, gpus: float) -> str:
    parts = [f"{cpus} CPU{'' if cpus == 1 else 's'}"]
    return " and ".join(parts + ([f"{gpus:g} GPU{'' if gpus <= 1 else 's'}"] if gpus else []))


def _asked(workers: int) -> str:
    return f"{workers} worker{'' if workers == 1 else 's'}"


def _count(nodes: Sequence[Node]) -> str:
    return f"the cluster's {len(nodes)} node{'' if len(nodes) == 1 else 's'}"
