"""Loading a model and its processor for answering.

Weights are safetensors only and a model's own code is never run. Knows torch and transformers (loaded when a
function needs them) and sources; not schedules, pictures or measurements.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from reroute_cli.adapters import Merged, adapter_digest, merge
from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.generation import MODEL, Generation, apply, read_generation, special_tokens
from reroute_cli.proof import Proven, setting_of_check, standing
from reroute_cli.sources import POCKET, Source, explained, find, known, read_config

if TYPE_CHECKING:
    from profiles import ModelEntry

_DEVICE = re.compile(r"cpu|mps|cuda(:[0-9]{1,4})?")


@dataclass(frozen=True)
class LoadOptions:
    """How to load: every field as the option of the same name says; chat_template: the text of the file.

    quiet: nothing is said while it takes long.
    """

    model: str = POCKET
    device: str = "auto"
    dtype: str = "auto"
    attn: str = "sdpa"
    load_format: str = "auto"
    seed: int = 0
    chat_template: str | None = None
    generation: str = MODEL
    quiet: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Loaded:
    """A model ready to answer.

    name: what was asked for, the hub id of a well-known model. revision: the hub commit, None for local
    folders and dummy weights. random: dummy weights.
    config_digest: SHA-256 of its config.json's contents. adapter: what was merged into it. proven, refusal:
    how the engine stands to it under what is installed, see proof.py. processor_filled, chat_template,
    remarks: see processors.py. generation: the settings that the model answers with.
    """

    name: str
    model: Any
    processor: Any
    family: str
    layers: int
    first_layer: int
    image_token_ids: tuple[int, ...]
    revision: str | None
    device: str
    dtype: str
    attention: str
    random: bool = False
    config_digest: str = ""
    adapter: Merged | None = None
    proven: Proven = True
    refusal: str | None = None
    processor_filled: Mapping[str, Any] = field(default_factory=dict)
    chat_template: str = "model"
    remarks: tuple[str, ...] = ()
    generation: Generation = field(default_factory=Generation)


def load(options: LoadOptions) -> Loaded:
    """Load model and processor; raises Failure, UsageError or UnsupportedModelError with one sentence."""
    setting_of_check()
    check_attention(options.attn)
    device = choose_device(options.device)
    entry = known(options.model)
    if entry is not None and options.load_format == "dummy":
        return _from_numbers(entry, options, device)
    return _from_files(entry.hub if entry else options.model, options, device)


def _from_files(name: str, options: LoadOptions, device: str) -> Loaded:
    """A model whose config and processor are in a folder or on the hub."""
    from transformers import AutoConfig

    from reroute_cli.processors import prepared
    from reroute_cli.weights import refuse_feature_layers
    from routing.families import describe_config

    source = find(options.model)
    raw = read_config(options.model, source)  # damage is told in our words, not in those of a parser
    with explained(options.model):
        config = AutoConfig.from_pretrained(source.location, **source.arguments)
        refuse_feature_layers(options.model, config)
        describe_config(config)  # refuses what can't be routed before anything large is fetched
        processor, preparation = prepared(options.model, source.of_processor, config, options.chat_template)
        generation = generation_of(options, source, raw, config)
        model = _load_model(source, config, options, device, special_tokens(options.model, generation))
        apply(options.model, model, generation)
        merged = merged_of(options, source)
        if merged is not None:
            model = merge(options.model, model, merged.adapter)
    loaded = _loaded(name, model, processor, options, device)
    revision = source.revision or getattr(model.config, "_commit_hash", None)
    return replace(
        loaded,
        revision=revision,
        config_digest=config_digest(raw),
        adapter=merged,
        generation=generation,
        **vars(preparation),
    )


def merged_of(options: LoadOptions, source: Source) -> Merged | None:
    """The adapter that is merged into the weights; random ones get none."""
    if source.adapter is None or options.load_format == "dummy":
        return None
    return Merged(source.adapter, source.revision, adapter_digest(source.adapter))


def generation_of(options: LoadOptions, source: Source, raw: Mapping[str, Any], config: Any) -> Generation:
    """The settings of a checkpoint (raises Failure); random weights have none.

    raw, config: its config.json, and what transformers made of it.
    """
    if options.load_format == "dummy":
        return Generation(options.generation)
    vocabulary = config.get_text_config().vocab_size
    return read_generation(options.model, source, raw, vocabulary, options.generation)


def _from_numbers(entry: ModelEntry, options: LoadOptions, device: str) -> Loaded:
    """A well-known model with random weights: nothing is read and nothing downloaded."""
    from reroute_cli.chat_templates import choose_template
    from reroute_cli.dummy.model import build_config, build_model
    from reroute_cli.dummy.processor import build_processor

    with explained(options.model):
        config = build_config(entry.config)
        processor = build_processor(entry.processor, config.get_text_config().vocab_size)
        chosen = choose_template(options.model, processor, config, options.chat_template)
        model = build_model(options.model, config, _settings(options, device), device, options.seed)
    loaded = _loaded(entry.hub, model, processor, options, device)
    return replace(
        loaded,
        config_digest=config_digest(entry.config),
        chat_template=chosen.identity,
        generation=Generation(options.generation),
    )


def _loaded(name: str, model: Any, processor: Any, options: LoadOptions, device: str) -> Loaded:
    from routing.families import describe_config

    info = describe_config(model.config)
    stands = standing(model.config, quiet=options.quiet)
    return Loaded(
        name=name,
        model=model,
        processor=processor,
        family=info.family,
        layers=info.layers,
        first_layer=info.first_layer,
        image_token_ids=info.image_token_ids,
        revision=None,
        device=device,
        dtype=str(model.dtype).removeprefix("torch."),
        attention=str(model.config._attn_implementation),
        random=options.load_format == "dummy",
        proven=stands.proven,
        refusal=stands.refusal,
    )


def config_digest(config: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of what a config.json says, however it is laid out."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def choose_device(name: str) -> str:
    """A torch device string; 'auto' is the first GPU or the CPU (raises Failure when it is not there)."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not _DEVICE.fullmatch(name):
        raise UsageError(f"--device '{name}' is none of auto, cpu, cuda, cuda:N, mps: choose one")
    kind, _, index = name.partition(":")
    if kind == "cuda" and not torch.cuda.is_available():
        raise Failure(f"--device '{name}': torch {torch.__version__} sees no CUDA GPU; use --device cpu")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise Failure(f"--device '{name}': there are {torch.cuda.device_count()} GPUs, numbered from 0")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise Failure(f"--device '{name}': torch sees no Apple GPU; use --device cpu")
    return name


def choose_dtype(name: str, device: str) -> Any:
    """A torch dtype; 'auto' is float32 on the CPU and bfloat16 (old cards: float16) on a GPU."""
    import torch

    if name != "auto":
        return getattr(torch, name)
    if device == "cpu":
        return torch.float32
    return torch.bfloat16 if device == "mps" or torch.cuda.is_bf16_supported() else torch.float16


def check_attention(name: str) -> None:
    """Refuse flash attention where its package or a GPU for it is missing."""
    from transformers.utils import is_flash_attn_2_available

    if name == "flash_attention_2" and not is_flash_attn_2_available():
        raise Failure(f"--attn {name} needs a CUDA GPU and the flash-attn package: use --attn sdpa")


def _load_model(
    source: Source, config: Any, options: LoadOptions, device: str, own: Mapping[str, Any]
) -> Any:
    """The model in eval mode on its device; random weights of the config's shapes for load_format dummy.

    own: what only from_pretrained is told.
    """
    from reroute_cli.dummy.model import build_model
    from reroute_cli.weights import load_weights

    settings = _settings(options, device)
    if options.load_format == "dummy":
        return build_model(options.model, config, settings, device, options.seed)
    return load_weights(options.model, source, config, {**settings, **own}).to(device)


def _settings(options: LoadOptions, device: str) -> dict[str, Any]:
    """What from_config and from_pretrained are told alike."""
    return {"dtype": choose_dtype(options.dtype, device), "attn_implementation": options.attn}


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep transformers and Python's warnings from talking; all is as before afterwards."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
