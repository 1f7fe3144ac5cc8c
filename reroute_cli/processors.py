"""A model's processor from its files.

Knows transformers (loaded when a function needs it) and sources; no weights, no pictures.
"""

from __future__ import annotations

from typing import Any

from reroute_cli.errors import Failure
from reroute_cli.missing import lacks
from reroute_cli.sources import Source


def load_processor(source: Source, family: str) -> Any:
    """The model's processor; without torchvision, those that carry a video processor are built without it."""
    from transformers import AutoProcessor
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    try:
        return AutoProcessor.from_pretrained(source.location, **source.arguments)
    except ImportError:
        if family not in PROCESSOR_MAPPING_NAMES:
            raise Failure(lacks("transformers", family, "PROCESSOR_MAPPING_NAMES")) from None
        kind = image_only(PROCESSOR_MAPPING_NAMES[family])
        return kind.from_pretrained(source.location, **source.arguments)


def image_only(name: str) -> Any:
    """A processor class of transformers without its video processor, whose code needs torchvision."""
    import transformers

    whole = getattr(transformers, name)
    if not hasattr(whole, "get_attributes"):  # what is overridden below would never be asked
        raise Failure(lacks("transformers", "get_attributes", name))

    class ImageOnly(whole):  # type: ignore[misc, valid-type]
        @classmethod
        def get_attributes(cls) -> list[str]:
            return [name for name in super().get_attributes() if name != "video_processor"]

    ImageOnly.__name__, ImageOnly.__module__ = whole.__name__, whole.__module__
    return ImageOnly
