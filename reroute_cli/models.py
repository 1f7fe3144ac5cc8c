"""Loading a model and its processor for answering.

Weights are safetensors only and a model's own code is never run. Knows torch and transformers (loaded when a
function needs them) and sources; not schedules, pictures or measurements.
"""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reroute_cli.errors import Failure, UsageError
from reroute_cli.sources import POCKET, Source, explained, find, read_config, refuse_pickles


@dataclass(frozen=True)
class LoadOptions:
    """How to load: every field as the option of the same name says."""

    model: str = POCKET
    device: str = "auto"
    dtype: str = "auto"
    attn: str = "sdpa"
    load_format: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class Loaded:
    """A model ready to answer. revision: the hub commit, None for local folders. random: dummy weights."""

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


def load(options: LoadOptions) -> Loaded:
    """Load model and processor; raises Failure, UsageError or UnsupportedModelError with one sentence."""
    from transformers import AutoConfig

    from routing.families import describe_config

    check_attention(options.attn)
    source = find(options.model)
    read_config(options.model, source)  # damage is told in our words, not in those of a parser
    device = choose_device(options.device)
    with explained(options.model):
        config = AutoConfig.from_pretrained(source.location, **source.arguments)
        _refuse_feature_layers(options.model, config)
        info = describe_config(config)  # refuses what can't be routed before anything large is fetched
        processor = load_processor(source, info.family)
        model = _load_model(source, config, options, device)
    return Loaded(
        name=options.model,
        model=model,
        processor=processor,
        family=info.family,
        layers=info.layers,
        first_layer=info.first_layer,
        image_token_ids=info.image_token_ids,
        revision=source.revision or getattr(model.config, "_commit_hash", None),
        device=device,
        dtype=str(model.dtype).removeprefix("torch."),
        attention=str(model.config._attn_implementation),
        random=options.load_format == "dummy",
    )


def choose_device(name: str) -> str:
    """A torch device string; 'auto' is the first GPU or the CPU (raises Failure when it is not there)."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise UsageError(f"--device '{name}' is none of auto, cpu, cuda, cuda:N, mps: choose one")
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


def _load_model(source: Source, config: Any, options: LoadOptions, device: str) -> Any:
    """The model in eval mode on its device; random weights of the config's shapes for load_format dummy."""
    import torch
    from transformers import AutoModelForImageTextToText

    settings = {"dtype": choose_dtype(options.dtype, device), "attn_implementation": options.attn}
    if options.load_format == "dummy":
        torch.manual_seed(options.seed)
        with torch.device(device):
            return AutoModelForImageTextToText.from_config(config, **settings).eval()
    refuse_pickles(options.model, source)
    _refuse_overclaim(options.model, source, config)
    model, report = AutoModelForImageTextToText.from_pretrained(
        source.location,
        config=config,
        **source.arguments,
        **settings,
        use_safetensors=True,
        output_loading_info=True,
    )
    lacking = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if lacking:
        raise Failure(
            f"the weights of '{options.model}' lack {len(lacking)} tensors that its config.json asks for "
            f"('{lacking[0]}' first): fetch the model anew, or use --load-format dummy for random weights"
        )
    return model.eval().to(device)


def _refuse_overclaim(name: str, source: Source, config: Any) -> None:
    """Refuse a folder whose config asks for far more than its weights hold, before any of it is allocated.

    Quantised weights are packed, so their count says nothing.
    """
    import torch
    from safetensors import safe_open
    from transformers import AutoModelForImageTextToText

    files = sorted(Path(source.location).glob("*.safetensors"))
    if not files or getattr(config, "quantization_config", None):
        return
    held = 0
    for file in files:
        with safe_open(file, "pt") as tensors:
            held += sum(math.prod(tensors.get_slice(key).get_shape()) for key in tensors.keys())  # noqa: SIM118
    with torch.device("meta"):
        shell = AutoModelForImageTextToText.from_config(config)
    asked = sum(parameter.numel() for parameter in shell.parameters())
    if asked > 2 * held:
        raise Failure(
            f"the config.json of '{name}' asks for {asked} parameters and its weights hold {held}: "
            "fetch the model anew, or use --load-format dummy for random weights"
        )


def _refuse_feature_layers(name: str, config: Any) -> None:
    """Refuse a config that reads the vision tower at a layer it does not have."""
    depth = getattr(getattr(config, "vision_config", None), "num_hidden_layers", None)
    chosen = getattr(config, "vision_feature_layer", None)
    for layer in chosen if isinstance(chosen, list) else [chosen]:
        if isinstance(layer, int) and isinstance(depth, int) and not -depth - 1 <= layer <= depth:
            raise Failure(
                f"the config.json of '{name}' reads vision layer {layer} of a tower of {depth}: "
                "fetch the model anew"
            )


def load_processor(source: Source, family: str) -> Any:
    """The model's processor; without torchvision, those that carry a video processor are built without it."""
    from transformers import AutoProcessor

    try:
        return AutoProcessor.from_pretrained(source.location, **source.arguments)
    except ImportError:
        return _image_only(family).from_pretrained(source.location, **source.arguments)


def _image_only(family: str) -> Any:
    """The family's processor class without its video processor, whose code needs torchvision."""
    import transformers
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    whole = getattr(transformers, PROCESSOR_MAPPING_NAMES[family])

    class ImageOnly(whole):  # type: ignore[misc, valid-type]
        @classmethod
        def get_attributes(cls) -> list[str]:
            return [name for name in super().get_attributes() if name != "video_processor"]

    ImageOnly.__name__ = whole.__name__
    return ImageOnly


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
