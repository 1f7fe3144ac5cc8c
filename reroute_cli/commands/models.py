"""`reroute models`: what can be run, what can be planned, and what can't be routed and why."""

from __future__ import annotations

from reroute_cli.console.options import ListOutput


def models(output: ListOutput) -> None:
    """List the model families that can be routed, those that can't, and the models known by name."""
    import profiles
    from reroute_cli.measure.boxes import convention_of
    from reroute_cli.records.lists import FamilyPart, KnownModelPart, ModelList, RefusedPart
    from reroute_cli.views.emit import emit
    from routing import FAMILIES, REFUSED
    from routing.model_shape import ModelShape

    entries = [profiles.model(name) for name in profiles.model_names()]
    found = ModelList(
        families=[
            FamilyPart(
                model_type=kind,
                title=family.title,
                boxes=written.title if (written := convention_of(kind)) else None,
            )
            for kind, family in FAMILIES.items()
        ],
        known=[
            KnownModelPart(
                name=entry.name,
                hub=entry.hub,
                source=entry.source,
                layers=len(ModelShape.from_config(entry.config).layers),
                visual_tokens=entry.visual_tokens,
                picture=entry.picture,
            )
            for entry in entries
        ],
        refused=[RefusedPart(model_type=kind, reason=reason) for kind, reason in REFUSED.items()],
    )
    emit(found, output)
