"""What a well-known model's processor needs, so that pictures become its visual tokens without a download.

Data only (processors/*.yaml): class names of transformers, preprocessing numbers in the shape of the hub's
preprocessor_config.json, special tokens with their real ids, a chat template. Knows no picture and no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from profiles.errors import ProfileError
from profiles.reader import folder, read

_KEYS = (
    "source",
    "processor",
    "arguments",
    "image_processor",
    "image",
    "roles",
    "starts_with",
    "tokens",
    "template",
)


@dataclass(frozen=True)
class ProcessorEntry:
    """The processor of one or more well-known models.

    kind, image_kind: class names in transformers, the second without its backend. image: numbers of the image
    processor. arguments: further ones of the processor. tokens: special tokens and their ids. roles: what the
    tokenizer calls some of them. starts_with: the token that it puts before every text, '' for none.
    """

    name: str
    source: str
    kind: str
    arguments: Mapping[str, Any]
    image_kind: str
    image: Mapping[str, Any]
    roles: Mapping[str, str]
    starts_with: str
    tokens: Mapping[str, int]
    template: str


def processor(name: str) -> ProcessorEntry:
    """A processor by the name that models give it. Raises ProfileError for any other."""
    if name not in _entries():
        raise ProfileError(
            name, "", f"no numbers of this processor are kept here; there are {', '.join(_entries())}"
        )
    return _entries()[name]


@cache
def _entries() -> dict[str, ProcessorEntry]:
    found = {}
    for path in folder("processors"):
        processors = read(path, path.name)
        for name in processors:
            section = processors.section(name)
            section.only(*_KEYS)
            tokens, roles = section.section("tokens"), section.section("roles")
            found[name] = ProcessorEntry(
                name=name,
                source=section.text("source"),
                kind=section.text("processor"),
                arguments=dict(section.section("arguments")),
                image_kind=section.text("image_processor"),
                image=dict(section.section("image")),
                roles={role: roles.choice(role, tuple(tokens)) for role in roles},
                starts_with=section.choice("starts_with", tuple(tokens)) if "starts_with" in section else "",
                tokens={token: tokens.whole(token) for token in tokens},
                template=section.text("template"),
            )
    return found
