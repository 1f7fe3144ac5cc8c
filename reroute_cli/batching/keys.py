"""The key of an answer: a digest of everything that determines it, known before the model runs.

Two items with the same key get the same answer. An item that fails has a key of its name instead, since its
content may not be readable, or be mended before the next try. Knows what was asked; not records or files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from reroute_cli.schedules import DENSE, ScheduleChoice

if TYPE_CHECKING:
    from reroute_cli.models import Loaded

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
        },
        "schedule": _schedule(choice),
        "generation": {"greedy": True, "max_new_tokens": max_new_tokens},
    }


def answer_key(settings: Settings, digests: Sequence[str], question: str, copy: int = 0) -> str:
    """SHA-256 (hex) of pictures, question and settings. copy: how many equal items came before this one."""
    parts: dict[str, Any] = {"pictures": list(digests), "question": question, **settings}
    return _digest(parts | ({"copy": copy} if copy else {}))


def failure_key(settings: Settings, identity: str, image: str, question: str) -> str:
    """The key of an item's error: of its names, whatever its picture holds."""
    return _digest({"failed": identity, "image": image, "question": question, **settings})


def _schedule(choice: ScheduleChoice) -> dict[str, Any]:
    """What determines the schedule of any prompt; a profile by its content, not by its name."""
    if choice.profile is not None:
        import profiles

        return {"profile": asdict(profiles.load(choice.profile).recipe)}  # type: ignore[call-overload]
    if choice.method in (None, DENSE):
        return {"method": DENSE}
    from routing.methods import METHODS

    seeded = "seed" in METHODS[choice.method or DENSE].options
    return {
        "method": choice.method,
        "action": str(choice.action or "prune"),
        "ratio": choice.ratio,
        "budget": choice.budget,
        "seed": choice.seed if seeded else None,
    }


def _digest(parts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
