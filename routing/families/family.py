"""What the engine must know of a model family, as data.

A family says where the decoder and its visual tokens are, from which decoder layer on tokens may be
reduced, what its processor must share with the model's config, and how its published checkpoints are asked.
It does not know schedules, tensors or hooks, and imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


def one_image_token(config: Any) -> tuple[int, ...]:
    """The ids whose positions are visual tokens, for families with a single placeholder."""
    return (int(config.image_token_id),)


def image_and_video_tokens(config: Any) -> tuple[int, ...]:
    """The same for families that mark video tokens with an id of their own."""
    return (int(config.image_token_id), int(config.video_token_id))


def any_layer(_config: Any) -> int:
    """Visual tokens enter once, before layer 0: every decoder layer may decide."""
    return 0


@dataclass(frozen=True)
class Shared:
    """What a processor must have as the model's config says it.

    values: dotted attribute of the processor -> the value that follows from the config. origin: the fields
    of the config that it follows from. holds: processor -> whether it agrees, where equal values are not the
    only way to. fills: a processor whose files do not say a value may be given it.
    """

    values: Mapping[str, Any]
    origin: str
    holds: Callable[[Any], bool] | None = None
    fills: bool = True


@dataclass(frozen=True)
class ChatTemplate:
    """How a published checkpoint is asked.

    text: a Jinja template. source: where it was published. tokens: what the tokenizer must have for it.
    """

    text: str
    source: str
    tokens: tuple[str, ...] = ()


def in_order(image: str) -> str:
    """Jinja of one message `m`: its parts as they come. image: what stands for one image."""
    return f'{{% for c in m.content %}}{{{{ "{image}" if c.type == "image" else c.text }}}}{{% endfor %}}'


def images_first(image: str, before: str = "", after: str = "") -> str:
    """Jinja of one message `m`: all its images, then its texts, each between `before` and `after`."""
    return (
        f'{{% for c in m.content if c.type == "image" %}}{{{{ "{image}" }}}}{{% endfor %}}'
        '{% for c in m.content if c.type == "text" %}'
        f'{{{{ "{before}" + c.text + "{after}" }}}}{{% endfor %}}'
    )


def chatml(content: str, source: str, system: str = "", tokens: tuple[str, ...] = ()) -> ChatTemplate:
    """Turns between <|im_start|> and <|im_end|>.

    content: Jinja of one message `m`. system: the system turn of a chat that brings none; empty: no turn.
    """
    opening = f'{{{{ "<|im_start|>system\\n{system}<|im_end|>\\n" }}}}'
    return ChatTemplate(
        (f'{{% if messages[0].role != "system" %}}{opening}{{% endif %}}' if system else "")
        + f'{{% for m in messages %}}{{{{ "<|im_start|>" + m.role + "\\n" }}}}{content}'
        '{{ "<|im_end|>\\n" }}{% endfor %}'
        '{% if add_generation_prompt %}{{ "<|im_start|>assistant\\n" }}{% endif %}',
        source,
        ("<|im_start|>", "<|im_end|>", *tokens),
    )


def nothing_shared(_config: Any, _processor: Any) -> tuple[Shared, ...]:
    """No number of the processor depends on the model's config."""
    return ()


def patch_grid(config: Any, _processor: Any) -> tuple[Shared, ...]:
    """The patches of dynamic-resolution towers: a processor that cuts otherwise makes other tokens."""
    return tuple(
        Shared({f"image_processor.{mine}": getattr(config.vision_config, its)}, f"vision_config.{its}")
        for mine, its in (
            ("patch_size", "patch_size"),
            ("temporal_patch_size", "temporal_patch_size"),
            ("merge_size", "spatial_merge_size"),
        )
    )


def first_side(size: Any) -> int:
    """The height of an image or patch size that a config gives as one number or as two."""
    return int(size[0] if isinstance(size, list | tuple) else size)


@dataclass(frozen=True)
class Family:
    """One model family.

    model_types: values of `config.model_type` it covers.
    title: a name to show.
    decoder: attribute of the base model that holds the language model.
    visual_tokens: config -> token ids whose positions are visual tokens.
    first_layer: config -> first decoder layer that may decide (deepstack models inject features before it).
    bidirectional: attention inside the prompt is not causal, so masks always matter.
    shared: config, processor -> what the processor must have as the config says it.
    chat_templates: config -> published templates, the first whose tokens the tokenizer has being the one;
    None where the family is asked without any.
    """

    model_types: tuple[str, ...]
    title: str
    decoder: str = "language_model"
    visual_tokens: Callable[[Any], tuple[int, ...]] = one_image_token
    first_layer: Callable[[Any], int] = any_layer
    bidirectional: bool = False
    shared: Callable[[Any, Any], tuple[Shared, ...]] = nothing_shared
    chat_templates: Callable[[Any], tuple[ChatTemplate, ...]] | None = None
