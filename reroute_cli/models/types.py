"""The image-text-to-text types of the installed transformers that have no file in routing/families.

Knows transformers (loaded when a function needs it) and what the engine says of a config; loads no model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from routing.errors import UnsupportedModelError
from routing.families import FAMILIES, REFUSED, describe_config


@dataclass(frozen=True)
class Types:
    """Types without a file. configs: default ones, of those that may be routed. refused: why not."""

    configs: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def types_without_a_file() -> Types:
    """All of them, told from their default configs."""
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    found = Types(refused=dict(REFUSED))
    for kind in sorted(set(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES) - FAMILIES.keys() - REFUSED.keys()):
        try:
            config = CONFIG_MAPPING[kind]()
            describe_config(config)
        except UnsupportedModelError as reason:
            found.refused[kind] = str(reason).removeprefix(f"{kind} ").removeprefix("cannot be routed: ")
        except Exception as error:  # noqa: BLE001  a config that can't be made is no reason to list nothing
            found.refused[kind] = f"its default config makes no sense here ({type(error).__name__}: {error})"
        else:
            found.configs[kind] = config
    return found
