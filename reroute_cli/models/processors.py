"""A model's processor from its files, in agreement with the model's config.

Older releases of transformers saved less of a processor than today's read: what follows from the model's
config is filled in. What contradicts the config is refused, since the model would get other tokens than it
has features for. Knows transformers (loaded when a function needs it) and sources; no weights, no images.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reroute_cli.console.errors import Failure
from reroute_cli.console.missing import lacks
from reroute_cli.models.chat_templates import choose_template
from reroute_cli.models.sources import PROCESSORS, Source
from routing.families import FAMILIES, family_of

if TYPE_CHECKING:
    from routing.families.family import Shared

_REMEDY = "the two were not saved together: fetch the model anew, or correct the one that is wrong"
_SHOWN = 120  # characters of a value
_NEEDED = (  # of what a folder must have one of these files
    ("image processor", PROCESSORS),
    ("tokenizer", ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")),
)


@dataclass(frozen=True)
class Preparation:
    """What was done to a processor before it was used.

    processor_filled: dotted attribute -> value that its files did not say. chat_template: "model", or
    "family" or "file" with the SHA-256 of the template's text. remarks: sentences that say it.
    """

    processor_filled: Mapping[str, Any]
    chat_template: str
    remarks: tuple[str, ...]


def prepared(name: str, source: Source, config: Any, template: str | None) -> tuple[Any, Preparation]:
    """The processor that a model of this config is asked with, and what was done to it.

    template: the text of --chat-template, or None. Raises Failure where it contradicts the config or where no
    chat template is known, UsageError where the given template can't be used.
    """
    folder = Path(source.location)
    for what, files in _NEEDED:
        if folder.is_dir() and not any((folder / file).is_file() for file in files):
            raise Failure(
                f"the folder '{name}' holds no {what} ({' or '.join(files)}): "
                "copy the files of the processor from the model that it was trained from"
            )
    processor = load_processor(source, config.model_type)
    filled = agree(name, processor, config, _saved(source))
    chosen = choose_template(name, processor, config, template)
    remarks = [chosen.remark] if chosen.remark else []
    if filled:
        values = ", ".join(f"{place} = {_shown(value)}" for place, value in filled.items())
        remarks.insert(0, f"the processor of '{name}' lacked what its config says and was given it: {values}")
    return processor, Preparation(filled, chosen.identity, tuple(remarks))


def load_processor(source: Source, family: str) -> Any:
    """The model's processor; without torchvision, those that carry a video processor are built without it."""
    from transformers import AutoProcessor
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    try:
        found = AutoProcessor.from_pretrained(source.location, **source.arguments)
    except ImportError:
        found = None
    if hasattr(found, "tokenizer") and hasattr(found, "image_processor"):
        return found
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


def agree(name: str, processor: Any, config: Any, saved: Iterable[str]) -> dict[str, Any]:
    """Fill what the processor's files do not say, and return it; raises Failure where they contradict it.

    saved: the dotted attributes that the files do say.
    """
    said = set(saved)
    filled: dict[str, Any] = {}
    for shared in family_of(config.model_type).shared(config, processor):
        found = {place: _plain(_at(processor, place)) for place in shared.values}
        if None in found.values() and not shared.fills:  # a size that this kind of image processor has not
            continue
        # a file says one side of a size under the name of the whole size
        told = [place for place in shared.values if ".".join(place.split(".")[:2]) in said]
        if not (told and _holds(shared, processor)):
            for place in shared.values:
                if place not in told and shared.fills and found[place] != shared.values[place]:
                    filled[place] = shared.values[place]
                    holder, _, last = place.rpartition(".")
                    setattr(_at(processor, holder) if holder else processor, last, shared.values[place])
        if not _holds(shared, processor):
            _refuse(name, found, shared.values, shared.origin)
    if config.model_type not in FAMILIES:  # its processor may know an image by a token that it replaces
        return filled
    return filled | _agree_on_image_token(name, processor, config, said)


def _agree_on_image_token(name: str, processor: Any, config: Any, said: set[str]) -> dict[str, Any]:
    """The same for the token that stands for an image: without its id features have no place to go."""
    wanted = family_of(config.model_type).visual_tokens(config)[0]
    found = getattr(processor, "image_token_id", wanted)
    if found == wanted:
        return {}
    added = processor.tokenizer.added_tokens_decoder.get(wanted)
    settable = "image_token" in inspect.signature(type(processor).__init__).parameters
    if added is None or not settable or "image_token" in said or hasattr(processor.tokenizer, "image_token"):
        tokens = {f"image_token_id ('{processor.image_token}')": found}
        _refuse(name, tokens, {next(iter(tokens)): wanted}, "image_token_id")
    processor.image_token, processor.image_token_id = str(added), wanted
    return {"image_token": str(added)}


def _refuse(name: str, found: Mapping[str, Any], values: Mapping[str, Any], origin: str) -> None:
    """Raise the Failure that names both sides."""
    mine = ", ".join(f"{place} = {_shown(value)}" for place, value in found.items())
    its = ", ".join(_shown(value) for value in values.values())
    raise Failure(
        f"the processor of '{name}' has {mine}, its config.json makes it {its} ({origin}): {_REMEDY}"
    )


def _shown(value: Any) -> str:
    """A value as sentences have it: of long lists the beginning."""
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _saved(source: Source) -> set[str]:
    """The dotted attributes that a processor's files say, nulls left out.

    What transformers has just read from the hub is in its cache.
    """
    from huggingface_hub import try_to_load_from_cache

    said: set[str] = set()
    for file, holder in (("processor_config.json", ""), ("preprocessor_config.json", "image_processor.")):
        path: Any = Path(source.location) / file
        if not Path(source.location).is_dir():
            path = try_to_load_from_cache(source.location, file, revision=source.revision)
        if not isinstance(path, str | Path) or not Path(path).is_file():
            continue
        read = json.loads(Path(path).read_text(encoding="utf-8"))
        inner = read.get("image_processor") or {}
        said |= {f"{holder}{key}" for key, value in read.items() if value is not None}
        said |= {f"image_processor.{key}" for key, value in inner.items() if value is not None}
    return said


def _holds(shared: Shared, processor: Any) -> bool:
    if shared.holds is not None:
        return shared.holds(processor)
    return all(_plain(_at(processor, place)) == value for place, value in shared.values.items())


def _at(processor: Any, place: str) -> Any:
    """A dotted attribute, None where it is not there; the sides of a size are its attributes or its keys."""
    value = processor
    for part in place.split("."):
        value = value.get(part) if isinstance(value, Mapping) else getattr(value, part, None)
    return value


def _plain(value: Any) -> Any:
    """Tuples as the lists that a config has."""
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
