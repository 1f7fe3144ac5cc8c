"""What the engine must know of a model family, as data.

A family says where the decoder and its visual tokens are and from which decoder layer on tokens may be
reduced. It does not know schedules, tensors or hooks, and imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
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
class Family:
    """One model family.

    model_types: values of `config.model_type` it covers.
    title: a name to show.
    decoder: attribute of the base model that holds the language model.
    visual_tokens: config -> token ids whose positions are visual tokens.
    first_layer: config -> first decoder layer that may decide (deepstack models inject features before it).
    bidirectional: attention inside the prompt is not causal, so masks always matter.
    """

    model_types: tuple[str, ...]
    title: str
    decoder: str = "language_model"
    visual_tokens: Callable[[Any], tuple[int, ...]] = one_image_token
    first_layer: Callable[[Any], int] = any_layer
    bidirectional: bool = False
