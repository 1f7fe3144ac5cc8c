"""The image-text-to-text types of the installed transformers that have no file in routing/families.

Knows transformers (loaded when a function needs it) and what the engine says of a config; loads no model.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from reroute_cli.console.output import write_file
from reroute_cli.models.proof import cache_folder, under_versions, verdict_name
from reroute_cli.records.base import Part
from routing.errors import UnsupportedModelError
from routing.families import FAMILIES, REFUSED, describe_config


@dataclass(frozen=True)
class Types:
    """Types without a file. configs: default ones, of those that may be routed. refused: why not."""

    configs: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


class TypeSurvey(Part):
    """The same without configs. layers: kinds of layers by type. verdicts: the `verdict_name` by type."""

    layers: dict[str, list[str]]
    verdicts: dict[str, str]
    refused: dict[str, str]


def types_without_a_file() -> Types:
    """All of them, told from their default configs: seconds."""
    from routing.checks.defaults import default_config, model_types

    found = Types(refused=dict(REFUSED))
    for kind in sorted(set(model_types()) - FAMILIES.keys() - REFUSED.keys()):
        try:
            config = default_config(kind)
            describe_config(config)
        except UnsupportedModelError as reason:
            found.refused[kind] = str(reason).removeprefix(f"{kind} ").removeprefix("cannot be routed: ")
        except Exception as error:  # noqa: BLE001  a config that can't be made is no reason to list nothing
            found.refused[kind] = f"its default config makes no sense here ({type(error).__name__}: {error})"
        else:
            found.configs[kind] = config
    return found


def survey_of_types() -> TypeSurvey:
    """What lists show of them; kept in the cache folder, so that only the first list loads transformers."""
    path = cache_folder() / "types" / f"{under_versions([list(FAMILIES), REFUSED])}.json"
    with suppress(OSError, ValidationError):
        return TypeSurvey.model_validate_json(path.read_bytes())
    from reroute_cli.models.load import quiet_libraries

    with quiet_libraries():
        types = types_without_a_file()
    made = TypeSurvey(
        layers={
            kind: list(dict.fromkeys(each.title for each in describe_config(config).kinds))
            for kind, config in types.configs.items()
        },
        verdicts={kind: verdict_name(config) for kind, config in types.configs.items()},
        refused=types.refused,
    )
    with suppress(OSError):  # a cache that can't be written only costs the seconds next time
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, made.model_dump_json())
    return made
