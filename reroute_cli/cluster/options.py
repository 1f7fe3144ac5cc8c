"""The options of `batch` that say where it runs, each spelled once."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from reroute_cli.console.errors import UsageError
from reroute_cli.options import within

_CLUSTER = "Cluster"


class EngineName(StrEnum):
    """Where a batch runs."""

    LOCAL = "local"
    RAY = "ray"


Engine = Annotated[
    EngineName,
    typer.Option(
        "--engine",
        help="local: in this process. ray: in workers on a Ray cluster, one model each; needs the extra "
        "'ray'.",
        rich_help_panel=_CLUSTER,
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="ADDR",
        help="HOST:PORT of a running cluster's head node, or auto on one of its nodes. Without it (and "
        "without RAY_ADDRESS) this machine is the cluster, for as long as the run takes.",
        show_default=False,
        rich_help_panel=_CLUSTER,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        callback=within(1, 100_000),
        help="Worker processes; by default as many as the GPUs have room for, without GPUs one a node.",
        show_default=False,
        rich_help_panel=_CLUSTER,
    ),
]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-worker",
        metavar="X",
        help="GPUs of each worker, 0.5 for two workers on one; by default 1, without GPUs none.",
        show_default=False,
        rich_help_panel=_CLUSTER,
    ),
]


def check_engine(engine: EngineName, **given: object) -> None:
    """Refuse options of a cluster where there is none (raises UsageError)."""
    for name, value in given.items():
        if engine is not EngineName.RAY and value is not None:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} is for a cluster: add --engine ray, or drop {option}")
