"""What a worker's model will be, told without its weights: keys of answers are known before anybody loads.

`tests/cli/cluster` hold it to what loading gives, and every worker compares it with what it loaded. Knows
configs, processors and what `load` makes of options; loads no weights.
"""

from __future__ import annotations

from typing import Any

from reroute_cli.generation import Generation
from reroute_cli.models.load import Loaded, LoadOptions, choose_dtype, config_digest, generation_of, merged_of
from reroute_cli.sources import explained, find, known, read_config


def without_weights(options: LoadOptions, device: str) -> Loaded:
    """What `load` would give on this device, with neither model nor processor kept; raises what it raises."""
    from transformers import AutoConfig

    from reroute_cli.chat_templates import choose_template
    from reroute_cli.dummy.model import build_config
    from reroute_cli.dummy.processor import build_processor
    from reroute_cli.processors import prepared
    from routing.families import describe_config
    from routing.host import is_proven

    entry = known(options.model)
    random = options.load_format == "dummy"
    revision, generation = None, Generation(options.generation)
    made: dict[str, Any] = {}
    with explained(options.model):
        if entry is not None and random:
            raw, config = entry.config, build_config(entry.config)
            processor = build_processor(entry.processor, config.get_text_config().vocab_size)
            made["chat_template"] = choose_template(
                options.model, processor, config, options.chat_template
            ).identity
        else:
            source = find(options.model)
            raw = read_config(options.model, source)
            config = AutoConfig.from_pretrained(source.location, **source.arguments)
            made = {
                "adapter": merged_of(options, source),
                **vars(prepared(options.model, source.of_processor, config, options.chat_template)[1]),
            }
            revision = source.revision or getattr(config, "_commit_hash", None)
            generation = generation_of(options, source, raw, config)
        info = describe_config(config)
    return Loaded(
        name=entry.hub if entry else options.model,
        model=None,
        processor=None,
        proven=is_proven(),
        family=info.family,
        layers=info.layers,
        first_layer=info.first_layer,
        image_token_ids=info.image_token_ids,
        revision=revision,
        device=device,
        dtype=_dtype(options.dtype, device),
        attention=options.attn,
        random=random,
        config_digest=config_digest(raw),
        generation=generation,
        **made,
    )


def _dtype(asked: str, device: str) -> str:
    """The dtype by name. The driver may have no GPU to ask, and then believes in one of this decade."""
    import torch

    if asked == "auto" and device == "cuda" and not torch.cuda.is_available():
        return "bfloat16"
    return str(choose_dtype(asked, device)).removeprefix("torch.")
