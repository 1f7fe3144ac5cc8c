"""What the benchmarks of whole answers share as commands: arms, the model, and where a report goes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from reroute_cli.console.options import ModelOptions
from reroute_cli.models.load import Loaded, load
from reroute_cli.run.schedules import ScheduleChoice
from tests.benchmarks.shape import write_shape
from tests.benchmarks.subject import Decoder

ARMS = {
    "dense": ScheduleChoice(),
    "pdrop-reroute-0.889": ScheduleChoice("pdrop", "reroute", 0.889),
    "fastv-prune-0.667": ScheduleChoice("fastv", "prune", 0.667),
}


def add_model(parser: argparse.ArgumentParser, shape: str) -> None:
    """Options that `load_asked` reads. shape: what `--shape` is, as its help."""
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--load-format", default="auto")
    parser.add_argument("--shape", action="store_true", help=shape)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")


def load_asked(options: argparse.Namespace, name: str, decoder: Decoder) -> Loaded:
    """The model of the options, or with `--shape` random weights of this decoder under a name."""
    typed = ModelOptions(options.model, options.device, options.dtype, load_format=options.load_format)
    if not options.shape:
        return load(typed)
    with TemporaryDirectory() as folder:
        written = write_shape(Path(folder), decoder)
        return replace(load(replace(typed, model=written, load_format="dummy")), name=name)


def add_rounds(parser: argparse.ArgumentParser, rounds: int) -> None:
    """How often everything is timed, and the file that `publish` writes."""
    parser.add_argument("--rounds", type=int, default=rounds, help="timed rounds, after one that warms up")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write everything there as JSON as well")


def publish(report: Mapping[str, Any], table: Sequence[str], out: Path | None) -> None:
    """Print the lines of the table, and write the report as JSON where that is asked for."""
    print("\n".join(table))
    if out:
        out.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
