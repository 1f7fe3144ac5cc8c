"""Calls of a supported model under which a prompt cannot be routed, each refused with what to do instead.

Knows what callers pass to a model. Knows no schedule, no hooks and no cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from routing.errors import UnsupportedInputError
from routing.host import scaled_from
from routing.layout import VisualLayout

PICTURES = ("pixel_values", "pixel_values_videos", "mm_encoder_outputs")


def refuse_pictures(kwargs: dict[str, Any]) -> None:
    """Refuse pictures that arrive on a used cache."""
    given = [kwargs.get(name) for name in PICTURES]
    if any(isinstance(value, Tensor) or value for value in given):
        raise UnsupportedInputError(
            "new pictures on a used cache (a later turn, or prefill_chunk_size) cannot be routed; "
            "give the whole conversation as one prompt on a fresh cache"
        )


def refuse_checkpointing(layer: Any) -> None:
    """Refuse gradient checkpointing, which runs layers again when the prefill is long over."""
    if layer.training and torch.is_grad_enabled() and getattr(layer, "gradient_checkpointing", False):
        raise UnsupportedInputError(
            "a routed prefill can't be recomputed layer by layer: call model.gradient_checkpointing_disable()"
        )


def refuse_counting(layers: Sequence[Any], length: int) -> None:
    """Refuse to reduce a prompt of `length` tokens where a layer would count them itself, and miscount."""
    limit = min((tokens for tokens in map(scaled_from, layers) if tokens is not None), default=None)
    if limit is not None and length >= limit:
        raise UnsupportedInputError(
            f"a prompt of {length} tokens cannot be reduced: from {limit} tokens on, this model scales "
            "queries by the number of their row"
        )


def refuse_tail(layout: VisualLayout, tokens: int) -> None:
    """Refuse layers on the last `tokens` columns alone, unless these begin with the ranking token."""
    if not layout.flush:
        raise UnsupportedInputError(
            "the last layers of this model run on the last tokens of a prompt alone, so that a batch must be "
            "padded on the left"
        )
    if tokens != 1 + layout.speculated:
        raise UnsupportedInputError(
            f"logits of the last {tokens} tokens were asked of a part of the model: ask the whole model"
        )


def refuse_piece(layout: VisualLayout, *columns: Tensor | None) -> None:
    """Refuse the first piece of a chunked prefill, whose last token is not the prompt's.

    It stops within or behind the pictures, or `columns` (its mask, its positions) are the left part of longer
    ones.
    """
    left_parts = [  # views of the first L columns of something longer, (..., B, L)
        view.storage_offset() == 0 and view.stride(-2) > view.shape[-1]
        for view in columns
        if view is not None and view.ndim >= 2
    ]
    if not layout.ends_in_text or any(left_parts):
        raise UnsupportedInputError(
            "a prompt must be whole and end in text after its last picture, and this looks like a piece of a "
            "chunked prefill: set prefill_chunk_size to None (or clone() a mask that you cut yourself)"
        )
