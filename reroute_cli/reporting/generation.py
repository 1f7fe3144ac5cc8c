"""What to say of the generation settings behind answers: those that are not neutral, and sides that differ.

Knows records; not where a sentence goes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from reroute_cli.records.base import GenerationPart
from reroute_cli.reporting.words import short

_NAMED = 6  # settings that a sentence names
_VALUE = 40  # characters of a value


def not_neutral(part: GenerationPart | None) -> Iterator[str]:
    """One sentence where a setting of the checkpoint changes greedy answers; nothing else."""
    if part is not None and part.active:
        yield f"answers are not plain greedy ones, the checkpoint sets {_told(part)}: see --generation"


def different(sides: Iterable[tuple[str, GenerationPart | None]]) -> Iterator[str]:
    """One sentence where the named sides were answered under settings that change answers differently.

    A side that does not say is of an older release, and no difference to a neutral one.
    """
    known = list(sides)
    kinds = {_identity(part) for _, part in known}
    if len(kinds) > 1:
        told = "; ".join(f"{name}: {_side(part)}" for name, part in known)
        yield f"the generation settings differ, which alone may change answers ({told})"


def _identity(part: GenerationPart | None) -> str:
    return json.dumps({} if part is None else part.active, sort_keys=True, default=str)


def _side(part: GenerationPart | None) -> str:
    if part is None:
        return "not said"
    return _told(part) if part.active else "neutral"


def _told(part: GenerationPart) -> str:
    """'no_repeat_ngram_size 3, repetition_penalty 1.05'."""
    names = sorted(part.active)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(f"{short(name, _VALUE)} {_value(part.active[name])}" for name in names[:_NAMED]) + more


def _value(value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"sha256", "entries"}:
        return f"of {short(str(value['entries']), _VALUE)} entries"
    return short(json.dumps(value, default=str), _VALUE)
