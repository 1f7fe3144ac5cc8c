"""`reroute models`: what can be run, what can be planned, and what can't be routed and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reroute_cli import options
from reroute_cli.console.output import Sink

if TYPE_CHECKING:
    from reroute_cli.records.lists import ModelList


def models(json: options.Json = False) -> None:
    """List the model families that can be routed, those that can't, and the models known by name."""
    found = _found()
    if json:
        Sink().json(found.as_dict())
        return
    from reroute_cli.views.registry import document
    from reroute_cli.views.write import terminal

    Sink().table(*terminal.page(document(found)))


def _found() -> ModelList:
    import profiles
    from reroute_cli.boxes import CONVENTIONS
    from reroute_cli.records.lists import FamilyPart, KnownModelPart, ModelList, RefusedPart
    from routing import FAMILIES, REFUSED
    from routing.model_shape import ModelShape

    entries = [profiles.model(name) for name in profiles.model_names()]
    return ModelList(
        families=[
            FamilyPart(
                model_type=kind,
                title=family.title,
                boxes=CONVENTIONS[kind].title if kind in CONVENTIONS else None,
            )
            for kind, family in FAMILIES.items()
        ],
        known=[
            KnownModelPart(
                name=entry.name,
                hub=entry.hub,
                source=entry.source,
                layers=ModelShape.from_config(entry.config).layers,
                visual_tokens=entry.visual_tokens,
                picture=entry.picture,
            )
            for entry in entries
        ],
        refused=[RefusedPart(model_type=kind, reason=reason) for kind, reason in REFUSED.items()],
    )
