"""Loading a model and its processor for answering.

Weights are safetensors only and a model's own code is never run. Knows torch and transformers (loaded when a
function needs them) and sources; not schedules, images or measurements.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.models.adapters import Merged, described, merge
from reroute_cli.models.generation import Generation, apply, read_generation, special_tokens
from reroute_cli.models.proof import Proven, proven_unchecked, setting_of_check, standing
from reroute_cli.models.sources import Source, explained, find, known, read_config
from routing.families import describe_config

if TYPE_CHECKING:
    from reroute_cli.console.options import ModelOptions
    from reroute_cli.console.output import Sink

_DEVICE = re.compile(r"cpu|mps|cuda(:[0-9]{1,4})?")


class MadeForAModel(Protocol):
    """A schedule that may have been made for another model."""

    def caveat(self, family: str, layers: int) -> str | None:
        """What to know of it on a model of this family and depth; None where there is nothing."""


@dataclass(frozen=True)
class Loaded:
    """A model ready to answer.

    name: what was asked for, the hub id of a well-known model. revision: the hub commit, None for local
    folders and dummy weights. random: dummy weights, of this seed.
    config_digest: SHA-256 of its config.json's contents. adapter: what was merged into it. proven, refusal:
    how the engine stands to it under what is installed, see proof.py. processor_filled, chat_template,
    remarks: see processors.py. generation: the settings that the model answers with.
    """

    name: str
    model: Any = field(repr=False)
    processor: Any = field(repr=False)
    family: str
    layers: int
    first_layer: int
    last_layer: int
    image_token_ids: tuple[int, ...]
    revision: str | None
    device: str
    dtype: str
    attention: str
    random: bool = False
    seed: int = 0
    config_digest: str = ""
    adapter: Merged | None = None
    proven: Proven = True
    refusal: str | None = None
    processor_filled: Mapping[str, Any] = field(default_factory=dict)
    chat_template: str = "model"
    remarks: tuple[str, ...] = ()
    generation: Generation = field(default_factory=Generation)


def load(options: ModelOptions) -> Loaded:
    """Load model and processor; raises Failure, UsageError or UnsupportedModelError with one sentence."""
    setting_of_check()
    check_attention(options.attn)
    device = choose_device(options.device)
    settings = {"dtype": choose_dtype(options.dtype, device), "attn_implementation": options.attn}
    known_as, source, config = _described(options)
    with explained(options.model):
        if known_as.random:
            from reroute_cli.models.dummy import build_model

            model = build_model(options.model, config, settings, device, options.seed)
        else:
            from reroute_cli.models.weights import load_weights

            assert source is not None
            own = special_tokens(options.model, known_as.generation)
            model = load_weights(options.model, source, config, settings | own).to(device)
        if source is not None:
            apply(options.model, model, known_as.generation)
        if known_as.adapter is not None:
            model = merge(options.model, model, known_as.adapter)
    stands = standing(model.config, quiet=options.quiet)
    if not describe_config(model.config).filed and stands.refusal is None:
        from routing.checks.proven import vouch

        vouch(model.config)  # or the engine would check it again
    return replace(
        known_as,
        model=model,
        device=device,
        dtype=str(model.dtype).removeprefix("torch."),
        attention=str(model.config._attn_implementation),
        proven=stands.proven,
        refusal=stands.refusal,
    )


def load_aloud(options: ModelOptions, sink: Sink, choices: Iterable[MadeForAModel] = ()) -> Loaded:
    """Load the model and tell what is to be known of it; raises like `load`."""
    loaded = load(options)
    tell_remarks(loaded, sink, choices)
    return loaded


def tell_remarks(loaded: Loaded, sink: Sink, choices: Iterable[MadeForAModel] = ()) -> None:
    """Say what loading found, and of each of these schedules whether it was made for another model."""
    caveats = (choice.caveat(loaded.family, loaded.layers) for choice in choices)
    for remark in dict.fromkeys((*loaded.remarks, *filter(None, caveats))):
        sink.talk(remark)


def without_weights(options: ModelOptions, device: str) -> Loaded:
    """What `load` would give on this device, with neither model nor processor kept; raises what it raises.

    So keys of answers are known before anybody loads; every worker compares them with what it loaded. The
    machine may have no GPU to ask for its dtype, and then believes in one of this decade.
    """
    import torch

    if options.dtype == "auto" and device == "cuda" and not torch.cuda.is_available():
        dtype = "bfloat16"
    else:
        dtype = str(choose_dtype(options.dtype, device)).removeprefix("torch.")
    found, _, config = _described(options)
    return replace(found, processor=None, proven=proven_unchecked(config), device=device, dtype=dtype)


def _described(options: ModelOptions) -> tuple[Loaded, Source | None, Any]:
    """A model without its weights, where its files are, and its config; what can't be routed is refused.

    There is no source where nothing is read.
    """
    from transformers import AutoConfig

    from reroute_cli.models.chat_templates import choose_template
    from reroute_cli.models.dummy import build_config, build_processor
    from reroute_cli.models.processors import prepared
    from reroute_cli.models.weights import refuse_feature_layers

    entry = known(options.model)
    source, made = None, dict[str, Any]()
    if entry is not None and options.load_format == "dummy":
        raw: Mapping[str, Any] = entry.config
        with explained(options.model):
            config = build_config(raw)
            if entry.processor is None:
                raise Failure(
                    f"what the processor of '{options.model}' does is not kept here, so there is no dummy of "
                    "it: 'reroute plan' knows its shapes"
                )
            processor = build_processor(entry.processor, config.get_text_config().vocab_size)
            chosen = choose_template(options.model, processor, config, options.chat_template)
            made["chat_template"] = chosen.identity
            info = describe_config(config)
    else:
        source = find(options.model)
        raw = read_config(options.model, source)  # damage is told in our words, not in those of a parser
        with explained(options.model):
            config = AutoConfig.from_pretrained(source.location, **source.arguments)
            refuse_feature_layers(options.model, config)
            info = describe_config(config)
            processor, preparation = prepared(
                options.model, source.of_processor, config, options.chat_template
            )
            revision = source.revision or getattr(config, "_commit_hash", None)
            made = vars(preparation) | {"revision": revision}
            if options.load_format != "dummy":  # random weights have no settings and get no adapter
                vocabulary = config.get_text_config().vocab_size
                made["generation"] = read_generation(
                    options.model, source, raw, vocabulary, options.generation
                )
                made["adapter"] = source.adapter and described(source.adapter, source.revision)
    made = {"generation": Generation(options.generation), "revision": None} | made
    loaded = Loaded(
        name=entry.hub if entry else options.model,
        model=None,
        processor=processor,
        family=info.family,
        layers=info.layers,
        first_layer=info.first_layer,
        last_layer=info.last_layer,
        image_token_ids=info.image_token_ids,
        device=options.device,
        dtype=options.dtype,
        attention=options.attn,
        random=options.load_format == "dummy",
        seed=options.seed,
        config_digest=config_digest(raw),
        **made,
    )
    return loaded, source, config


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
