"""The key of an answer: a digest of everything that determines it, known before the model runs.

Two items with the same key get the same answer. An item that fails has a key of its name instead, since its
content may not be readable, or be mended before the next try. Knows what was asked; not records or files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reroute_cli.chat import Turn
    from reroute_cli.models.load import Loaded
    from reroute_cli.schedules import ScheduleChoice

Settings = dict[str, Any]


def settings_of(loaded: Loaded, choice: ScheduleChoice, max_new_tokens: int) -> Settings:
    """What all items of a run share: model, schedule and generation, as plain JSON values."""
    return {
        "model": {
            "id": loaded.name,
            "revision": loaded.revision,
            "config": loaded.config_digest,
            "dtype": loaded.dtype,
            "attention": loaded.attention,
            "weights": f"random {choice.seed}" if loaded.random else "loaded",
            **_beside_the_files(loaded),
        },
        "schedule": choice.identity(),
        "generation": loaded.generation.identity(max_new_tokens),
    }


def _beside_the_files(loaded: Loaded) -> Settings:
    """What answers depend on beside the model's own files; nothing for a model that is used as it is."""
    filled: Settings = {"processor_filled": dict(loaded.processor_filled)} if loaded.processor_filled else {}
    if loaded.adapter is not None:
        filled["adapter"] = loaded.adapter.digest
    return filled | ({"chat_template": loaded.chat_template} if loaded.chat_template != "model" else {})


def answer_key(
    settings: Settings, digests: Sequence[str], question: str, copy: int = 0, turns: Sequence[Turn] = ()
) -> str:
    """SHA-256 (hex) of pictures, question or turns, and settings. copy: how many equal items came before."""
    parts: dict[str, Any] = {"pictures": list(digests), "question": question, **settings}
    parts |= {"turns": [turn.message() for turn in turns]} if turns else {}
    return _digest(parts | ({"copy": copy} if copy else {}))


def failure_key(settings: Settings, identity: str, image: str, question: str) -> str:
    """The key of an item's error: of its names, whatever its picture holds."""
    return _digest({"failed": identity, "image": image, "question": question, **settings})


def _digest(parts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
