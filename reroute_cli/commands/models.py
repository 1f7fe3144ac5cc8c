"""`reroute models`: what can be run, what can be planned, and what can't be routed and why."""

from __future__ import annotations

from reroute_cli.console.options import ListOutput


def models(output: ListOutput) -> None:
    """List the model types that can be routed, those that can't, and the models known by name."""
    import profiles
    from reroute_cli.console.missing import installed_version
    from reroute_cli.measure.judges import convention_of
    from reroute_cli.models.proof import kept_verdict
    from reroute_cli.models.types import survey_of_types
    from reroute_cli.records.lists import (
        FamilyPart,
        KnownModelPart,
        ModelList,
        RefusedPart,
        UnfiledTypePart,
    )
    from reroute_cli.views.emit import emit
    from routing import FAMILIES
    from routing.model_shape import ModelShape

    types, unfiled = survey_of_types(), []
    for kind, layers in types.layers.items():
        failed = kept_verdict(types.verdicts[kind])
        unfiled.append(
            UnfiledTypePart(
                model_type=kind,
                layer_kinds=layers,
                proven=None if failed is None else not failed,
                failed=failed or {},
            )
        )
    entries = [profiles.model(name) for name in profiles.model_names()]
    found = ModelList(
        transformers=installed_version("transformers"),
        families=[
            FamilyPart(
                model_type=kind,
                title=family.title,
                boxes=written.title if (written := convention_of(kind)) else None,
            )
            for kind, family in FAMILIES.items()
        ],
        unfiled=unfiled,
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
        refused=[RefusedPart(model_type=kind, reason=reason) for kind, reason in types.refused.items()],
    )
    emit(found, output)
