"""The documents' blocks that need an extra: what Ray and lmms-eval print, run as people run them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests import readme

ALONE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "NO_COLOR": "1",
    "COLUMNS": "100",
    "OMP_NUM_THREADS": "1",
    "REROUTE_DEVICE": "cpu",
    "PYTHONPATH": str(readme.ROOT),
}
SCHEDULE = ("--method", "pdrop", "--action", "reroute", "--ratio", "0.889")


def ray() -> str:
    """The sample questions on two workers of a Ray cluster that lives as long as the command."""
    cluster = ("--engine", "ray", "--workers", "2")
    command = ("batch", "--manifest", "samples/manifest.jsonl", *SCHEDULE, *cluster, "-o", "answers.jsonl")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "samples").symlink_to(readme.ROOT / "samples")
        done = _run("reroute_cli", command, Path(folder))
    return f"```console\n$ reroute {' '.join(command)}\n{done.stdout}{done.stderr}```\n"


def lmms_eval() -> str:
    """The sample questions in words as a task of lmms-eval: our line, then its tables."""
    arguments = "pretrained=pocket,method=pdrop,action=reroute,ratio=0.889"
    model = ("--model", "reroute", "--model_args", arguments)
    task = ("--tasks", "scenes_words", "--include_path", "TASKS", "--batch_size", "8")
    with tempfile.TemporaryDirectory() as folder:
        _write_task(Path(folder) / "TASKS")
        done = _run("lmms_eval", (*model, *task), Path(folder))
    said = re.search(r"scenes_words: \d+ of \d+ answered[^\x1b\n]*", done.stdout + done.stderr)
    assert said is not None, done.stderr
    steady = re.sub(r"^\|total_.*\n|^.*(?:seconds|tokens/s).*\n", "", done.stdout, flags=re.MULTILINE)
    tables = re.findall(r"(?:^\|.*\|\n)+", steady, re.MULTILINE)
    shown = "\n".join((said[0] + "\n", *tables))
    return f"```console\n$ python -m lmms_eval {' '.join(model)} \\\n      {' '.join(task)}\n{shown}```\n"


def _write_task(folder: Path) -> None:
    """The task of the tests of lmms-eval over all sample questions that are answered in words."""
    import datasets

    from tests.cli.integrations.lmms_eval.rows import HERE, SAMPLES, row

    lines = (json.loads(line) for line in (SAMPLES / "manifest.jsonl").read_text("utf-8").splitlines())
    rows = [row(line) for line in lines if not line["box"]]
    folder.mkdir()
    table = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    table.to_parquet(folder / "words.parquet")
    for file in (HERE / "task").glob("*words*"):
        (folder / file.name).write_text(file.read_text("utf-8").replace("DATA", str(folder)), "utf-8")
    for file in (HERE / "task").glob("*.py"):
        (folder / file.name).write_text(file.read_text("utf-8"), "utf-8")


def _run(module: str, arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | ALONE | {"HF_HOME": str(folder / "hf")},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{module} exited {done.returncode}: {done.stderr}")
    return done


GENERATED: dict[str, tuple[str, Callable[[], str]]] = {  # with the package that it needs
    "ray": ("ray", ray),
    "lmms-eval": ("lmms_eval", lmms_eval),
}
