"""The machine and the software that a measurement depends on, as plain values.

Reads versions without importing packages; torch is imported for what only it knows: making a description
needs it, reading one does not. Unknown is None. The machine is `cpu` (model, cores, torch_threads) and the
names and sizes of `gpus`; the rest is software and settings.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from reroute_cli.console.missing import installed_version
from routing.host import is_proven

PACKAGES = (
    "reroute",
    "torch",
    "transformers",
    "accelerate",
    "peft",
    "tokenizers",
    "safetensors",
    "pillow",
    "numpy",
    "nvidia-ml-py",
    "flash-attn",
    "torchvision",
)
SETTINGS = (
    "REROUTE_MODEL",
    "REROUTE_DEVICE",
    "REROUTE_DEBUG",
    "REROUTE_CHECK",
    "CUDA_VISIBLE_DEVICES",
    "HF_HUB_OFFLINE",
    "OMP_NUM_THREADS",
)


def describe_environment(proven: bool | str | None = None) -> dict[str, Any]:
    """Versions, commit, processor, GPUs, torch settings and environment variables.

    proven: whether the engine is proven on what is installed, or "checked" here (models/proof.py); None asks
    for the first alone.
    """
    import torch

    from reroute_cli.measure.memory import driver_version

    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "commit": _commit(),
        "proven": is_proven() if proven is None else proven,
        "packages": {name: installed_version(name) for name in PACKAGES},
        "cpu": {"model": _cpu_model(), "cores": os.cpu_count(), "torch_threads": torch.get_num_threads()},
        "cuda": torch.version.cuda,
        "gpus": [
            {
                "name": gpu.name,
                "memory_bytes": int(gpu.total_memory),
                "capability": f"{gpu.major}.{gpu.minor}",
                "uuid": str(getattr(gpu, "uuid", "")) or None,
            }
            for gpu in gpus
        ],
        "driver": driver_version(),
        "settings": {name: os.environ.get(name, "not set") for name in SETTINGS},
    }


def _commit() -> str | None:
    """The commit of the checkout this package runs from, '+' when it was changed; None outside one."""
    root = Path(__file__).resolve().parents[2]
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    command = [git, "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty=+"]
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # not a hook's
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, env=own)  # noqa: S603
    except (subprocess.SubprocessError, OSError):
        return None
    return done.stdout.strip() or None


def _cpu_model() -> str | None:
    """The processor's name, from Linux's list or from the platform."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or None
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, None) or platform.machine()
