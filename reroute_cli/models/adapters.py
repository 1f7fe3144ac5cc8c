"""Adapters: what PEFT saved beside a base model, merged into it when the model is loaded.

Merged, a model does the work that its users deploy, and every closed form of its costs holds. Knows peft and
safetensors (loaded when a function needs them) and files; not processors, schedules or measurements.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reroute_cli.console.errors import Failure

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class Adapter:
    """An adapter's folder, and the name or folder of the model that it was made for."""

    folder: Path
    base: str


@dataclass(frozen=True)
class Merged:
    """An adapter that was merged. revision: the hub commit of its base. digest: SHA-256 of its files.

    tensors: names of all that its file holds. numbers, magnitude: how many numbers, and the sum of their
    absolute values.
    """

    adapter: Adapter
    revision: str | None
    digest: str
    tensors: tuple[str, ...] = field(default=(), compare=False)
    numbers: int = field(default=0, compare=False)
    magnitude: float = field(default=0.0, compare=False)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter: transformers takes it for one with a config.json in it, too."""
    return (folder / CONFIG).is_file()


def read_adapter(name: str, folder: Path) -> Adapter:
    """The adapter in a folder; raises Failure where its files do not make one."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Failure(f"the {CONFIG} of '{name}' can't be read ({error}): fetch the adapter anew") from error
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    if not isinstance(base, str) or not base:
        raise Failure(
            f"the {CONFIG} of '{name}' names no base_model_name_or_path: add the base model's folder"
        )
    if not (folder / WEIGHTS).is_file():
        raise Failure(f"the adapter '{name}' holds no {WEIGHTS}: save it with safe_serialization=True")
    beside = folder / base
    return Adapter(folder, str(beside) if not Path(base).is_dir() and beside.is_dir() else base)


def described(adapter: Adapter, revision: str | None) -> Merged:
    """What is known of an adapter from its config and its weights, which are read once."""
    from safetensors.torch import load

    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        data = (adapter.folder / name).read_bytes()
        digest.update(hashlib.sha256(data).digest())
    tensors = load(data)
    return Merged(adapter, revision, digest.hexdigest(), tuple(sorted(tensors)), *_measure(tensors))


def merge(name: str, model: Any, merged: Merged) -> Any:
    """`model` with an adapter merged into its weights, in its dtype. merged: as `described`.

    Raises Failure without peft, for adapters that are no change of weights, and where not all of what the
    adapter holds found its place.
    """
    try:
        import peft
    except ImportError as error:
        raise Failure(f"'{name}' is an adapter: pip install 'reroute[peft]'") from error
    adapter = merged.adapter
    folder = str(adapter.folder)
    config = peft.PeftConfig.from_pretrained(folder)
    if config.is_prompt_learning:
        kind = str(config.peft_type).rpartition(".")[2]
        raise Failure(f"the adapter '{name}' is a {kind}, which puts tokens in front and can't be merged")
    try:
        adapted = peft.PeftModel.from_pretrained(model, folder, config=config, use_safetensors=True)
    except ValueError as error:
        if "not found in the base model" not in str(error):
            raise
        named = config.target_modules
        shown = f"'{named}'" if isinstance(named, str) else ", ".join(map(repr, sorted(named)[:3]))
        raise Failure(
            f"the adapter '{name}' changes {shown}, of which the base model "
            f"'{adapter.base}' has none: name its modules in {CONFIG}, such as ['q_proj', 'v_proj']"
        ) from error
    except RuntimeError as error:
        reasons = [line.strip() for line in str(error).splitlines() if "size mismatch" in line]
        if not reasons:
            raise
        raise Failure(f"the adapter '{name}' does not fit '{adapter.base}': {reasons[0]}") from error
    for embeddings in (False, True):  # those of the base are saved, too, where an adapter changes them
        loaded = peft.get_peft_model_state_dict(adapted, save_embedding_layers=embeddings)
        numbers, magnitude = _measure(loaded)
        if numbers == merged.numbers and math.isclose(magnitude, merged.magnitude, rel_tol=1e-6):
            return adapted.merge_and_unload(safe_merge=True)
    raise Failure(  # releases rename weights, and some fuse them
        f"the adapter '{name}' holds {len(merged.tensors)} tensors ('{min(merged.tensors, default='none')}' "
        f"first), and not all of them have a place in '{adapter.base}': "
        "merge it with the release that saved it"
    )


def _measure(tensors: Mapping[str, Any]) -> tuple[int, float]:
    """How many numbers there are, and the sum of their magnitudes."""
    values = tensors.values()
    return sum(one.numel() for one in values), sum(float(one.double().abs().sum()) for one in values)
