"""What a checkpoint's generation_config.json makes of a greedy answer, and how much of it is let through.

Answers are greedy whatever the file says. What else in it changes the logits or ends an answer is applied as
it is, or set neutral where that is asked for. Knows files and models; not records or schedules. transformers
is loaded by the functions that need it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reroute_cli.console.errors import Failure
from reroute_cli.models.generation_fields import (
    CHECKS,
    COSTS,
    METADATA,
    OVERRIDDEN,
    SPECIAL,
    UNABLE,
    is_neutral,
    special,
    unknown,
)
from reroute_cli.models.sources import Source, explained

MODEL, NEUTRAL = "model", "neutral"
FILE = "generation_config.json"
ALWAYS = ("settings", "greedy", "max_new_tokens")
"""What every recorded `generation` holds, beside the settings that are not neutral."""

_LARGEST_FILE = 1 << 20  # bytes
_LARGEST_RECORDED = 400  # characters of a value in a record
_LONGEST_NAME = 80
_SHOWN = 60  # characters of a value in a sentence
_REMEDY = "mend the file, or use --generation neutral"


@dataclass(frozen=True)
class Generation:
    """The settings in force. choice: MODEL or NEUTRAL.

    active: what changes a greedy answer, by its name in the file. set_aside: what NEUTRAL took out of it.
    kept: special tokens and what decides costs alone, as in the file; None where there is no file.
    """

    choice: str = MODEL
    active: Mapping[str, Any] = field(default_factory=dict, hash=False)
    set_aside: tuple[str, ...] = ()
    kept: Mapping[str, Any] | None = field(default=None, hash=False)

    def recorded(self, max_new_tokens: int) -> dict[str, Any]:
        """The settings as records hold them; a long value is named by its digest."""
        told: dict[str, Any] = {}
        for name, value in sorted(self.active.items()):
            text = json.dumps(value, sort_keys=True)
            if len(text) > _LARGEST_RECORDED:
                entries = len(value) if isinstance(value, list | dict | str) else 1
                value = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "entries": entries}
            told[name] = value
        return {"settings": self.choice, "greedy": True, "max_new_tokens": max_new_tokens, **told}

    def identity(self, max_new_tokens: int) -> dict[str, Any]:
        """What of it determines an answer: where the file is neutral, the choice does not."""
        found = self.recorded(max_new_tokens)
        choice = found.pop("settings")
        return found | ({"settings": choice} if self.active or self.set_aside else {})


def read_generation(
    name: str, source: Source, config: Mapping[str, Any], vocabulary: int, choice: str
) -> Generation:
    """The settings of a model in a folder or on the hub; raises Failure for what makes no sense.

    config: its config.json, where transformers looks for settings if there is no generation_config.json.
    vocabulary: tokens that the model knows.
    """
    from transformers import GenerationConfig

    path = _settings_file(name, source)
    if path is None:
        fields = set(vars(GenerationConfig()))
        given = {key: value for key, value in config.items() if key in fields}
        return settings_of(f"the config.json of '{name}'", given, vocabulary, choice)
    where = f"the {FILE} of '{name}'"
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ValueError(f"it is larger than {_LARGEST_FILE:,} bytes")
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        if not isinstance(found, dict):
            raise ValueError("it holds no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise Failure(f"{where} can't be read ({error}): fetch the model anew") from error
    for key in found:  # one that is no setting would take the place of something else
        taken = key in (*ALWAYS[:2], "") or key.startswith("__") or hasattr(GenerationConfig, key)
        if taken or len(key) > _LONGEST_NAME:
            raise Failure(f"{where} sets '{key[:_SHOWN]}', which is no setting: take it out of the file")
    kept = {key: found[key] for key in (*SPECIAL, *COSTS) if key in found}
    return replace(settings_of(where, found, vocabulary, choice), kept=kept)


def _settings_file(name: str, source: Source) -> Path | None:
    """Where a model's generation_config.json is; None where it has none."""
    if Path(source.location).is_dir():
        path = Path(source.location) / FILE
        return path if path.exists() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    offline = source.offline
    with explained(name):
        try:
            found = hf_hub_download(source.location, FILE, revision=source.revision, local_files_only=offline)
        except LocalEntryNotFoundError:
            if not offline:
                raise
            return None
        except EntryNotFoundError:
            return None
    return Path(found)


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def settings_of(where: str, found: Mapping[str, Any], vocabulary: int, choice: str) -> Generation:
    """The settings in `found`, each value checked; raises Failure for the first that makes no sense.

    where: what to call the file in a sentence. Of NEUTRAL only special tokens are checked.
    """
    active: dict[str, Any] = {}
    for key, value in found.items():
        if value is None or key in OVERRIDDEN or key in COSTS or key in METADATA:
            continue
        if key in SPECIAL:
            _checked(where, key, value, vocabulary)
        elif not is_neutral(key, value):
            active[key] = value if choice == NEUTRAL else _checked(where, key, value, vocabulary)
    if choice == NEUTRAL:
        return Generation(choice, set_aside=tuple(sorted(active)))
    if refused := sorted(set(active) & set(UNABLE)):
        raise Failure(f"{where} sets {refused[0]}, {UNABLE[refused[0]]}: use --generation neutral")
    return Generation(choice, active)


def _checked(where: str, key: str, value: Any, vocabulary: int) -> Any:
    """The value as transformers takes it; raises Failure with what is allowed."""
    try:
        return (special if key in SPECIAL else CHECKS.get(key, unknown))(value, vocabulary)
    except ValueError as error:
        shown = json.dumps(value)
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
        remedy = "mend the file" if key in SPECIAL else _REMEDY
        raise Failure(f"{where} has {key} {shown}, which is not {error}: {remedy}") from error


def special_tokens(name: str, generation: Generation) -> dict[str, Any]:
    """What `from_pretrained` is given, so that transformers reads no more of the file than was checked here.

    Raises Failure for what transformers refuses of it.
    """
    from transformers import GenerationConfig

    if generation.kept is None:
        return {}
    try:
        return {"generation_config": GenerationConfig(**generation.kept)}
    except Exception as error:
        raise Failure(f"the {FILE} of '{name}' makes no sense ({error}): mend the file") from error


def apply(name: str, model: Any, generation: Generation) -> None:
    """Make the settings those of the model, which answers greedily from then on (raises Failure)."""
    import torch
    from transformers import GenerationConfig

    given = model.generation_config
    kept = {key: getattr(given, key) for key in (*SPECIAL, *COSTS) if hasattr(given, key)}
    try:
        settings = GenerationConfig(**kept, **generation.active)
        if settings.watermarking_config is not None:  # its values only transformers knows: try them
            vocabulary = model.config.get_text_config().vocab_size
            process = settings.watermarking_config.construct_processor(vocabulary, "cpu")
            process(torch.zeros((1, 8), dtype=torch.long), torch.zeros((1, vocabulary)))
        mode = str(getattr(settings.get_generation_mode(), "value", ""))
    except Exception as error:
        raise Failure(f"the generation settings of '{name}' make no sense ({error}): {_REMEDY}") from error
    if mode != "greedy_search":
        raise Failure(f"the generation settings of '{name}' ask for {mode}, not greedy search: {_REMEDY}")
    if "exponential_decay_length_penalty" in generation.active and settings.eos_token_id is None:
        raise Failure(
            f"'{name}' sets exponential_decay_length_penalty and has no eos_token_id to favour: {_REMEDY}"
        )
    model.generation_config = settings
