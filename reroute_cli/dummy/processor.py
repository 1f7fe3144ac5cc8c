"""A processor without a file: the family's own classes at a well-known model's real preprocessing numbers.

Pictures become exactly the visual tokens that they become for the real model. Only the tokenizer is made up
(dummy_tokenizer.py says what differs). Knows no model and no picture.
"""

from __future__ import annotations

from typing import Any

from profiles import ProcessorEntry
from reroute_cli.dummy.tokenizer import build_tokenizer
from reroute_cli.processors import image_only


def build_processor(entry: ProcessorEntry, vocabulary: int) -> Any:
    """The processor of a well-known model; `vocabulary` is the number of tokens its config names."""
    kind = image_only(entry.kind)
    return kind(
        image_processor=_image_processor(entry),
        tokenizer=build_tokenizer(entry, vocabulary),
        chat_template=entry.template,
        **entry.arguments,
    )


def _image_processor(entry: ProcessorEntry) -> Any:
    """The class that the hub's file names, in the form that AutoProcessor would choose here."""
    import transformers
    from transformers.utils import is_torchvision_available

    suffix = "" if is_torchvision_available() else "Pil"
    return getattr(transformers, entry.image_kind + suffix)(**entry.image)
