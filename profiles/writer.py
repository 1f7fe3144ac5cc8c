"""Writes a schedule as a profile file that the reader accepts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from routing.schedule import Schedule


def dump(
    schedule: Schedule,
    *,
    title: str,
    source: str = "",
    model_family: str = "",
    layers: int | None = None,
    visual: int | None = None,
    provenance: Mapping[str, str | int | float] | None = None,
) -> str:
    """YAML text of a profile with explicit stages; loading it gives an equal schedule.

    provenance: how the schedule was found, under names of profiles.profile.PROVENANCE. Text is written on one
    line, without what the reader refuses.
    """
    about = {
        "title": _readable(title),
        "source": _readable(source),
        "model_family": model_family,
        "layers": layers,
        "visual": visual,
    }
    data: dict[str, Any] = {key: value for key, value in about.items() if value}
    fields = schedule.as_dict()
    data["stages"] = [_given(stage) for stage in fields.pop("stages")]
    vision = fields.pop("vision")
    data |= {key: value if isinstance(value, int) else str(value) for key, value in fields.items()}
    if vision is not None:
        data["vision"] = _given(vision)
    if provenance:
        data["provenance"] = {key: _readable(value) for key, value in provenance.items()}
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110)


def _readable(value: str | float) -> str | float:
    """Text as the reader takes it: one line of printable characters."""
    if not isinstance(value, str):
        return value
    return "".join(sign if sign.isprintable() else " " for sign in value).strip()


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}
