"""A model's weights from its files: safetensors only, all of them, and no more memory than they are worth.

Knows torch and transformers (loaded when a function needs them) and sources; no processors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reroute_cli.console.errors import Failure
from reroute_cli.console.missing import lacks
from reroute_cli.models.sources import Source, refuse_pickles


def load_weights(name: str, source: Source, config: Any, settings: Mapping[str, Any]) -> Any:
    """The model of this config in eval mode, on the CPU; raises Failure where a tensor is lacking.

    settings: what from_pretrained is told beside where the files are.
    """
    from transformers import AutoModelForImageTextToText

    refuse_pickles(name, source)
    _refuse_overclaim(name, source, config)
    model, report = AutoModelForImageTextToText.from_pretrained(
        source.location,
        config=config,
        **source.arguments,
        **settings,
        use_safetensors=True,
        output_loading_info=True,
    )
    for part in ("missing_keys", "mismatched_keys"):
        if part not in report:
            raise Failure(lacks("transformers", part, "the loading info of from_pretrained"))
    lacking = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if lacking:
        raise Failure(
            f"the weights of '{name}' lack {len(lacking)} tensors that its config.json asks for "
            f"('{lacking[0]}' first): fetch the model anew, or use --load-format dummy for random weights"
        )
    return model.eval()


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


def refuse_feature_layers(name: str, config: Any) -> None:
    """Refuse a config that reads the vision tower at a layer it does not have."""
    depth = getattr(getattr(config, "vision_config", None), "num_hidden_layers", None)
    chosen = getattr(config, "vision_feature_layer", None)
    for layer in chosen if isinstance(chosen, list) else [chosen]:
        if isinstance(layer, int) and isinstance(depth, int) and not -depth - 1 <= layer <= depth:
            raise Failure(
                f"the config.json of '{name}' reads vision layer {layer} of a tower of {depth}: "
                "fetch the model anew"
            )
