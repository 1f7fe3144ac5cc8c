"""What the KV cache really holds, layer by layer.

Bytes are those of the storages behind keys and values: a view that keeps a full tensor alive is counted in
full, a storage that two layers share once. Knows the layout of transformers caches, (B, heads, tokens, dim);
not models or schedules. A layer that keeps its tokens under other names is refused, never counted as empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reroute_cli.console.errors import Failure
from reroute_cli.missing import lacks
from routing.cache import RoutedLayer


@dataclass(frozen=True)
class KvUse:
    """A cache as it is. tokens, bytes: per layer, stored. logical: positions the cache stands for."""

    tokens: tuple[int, ...]
    bytes: tuple[int, ...]
    logical: int
    dense_bytes: int

    @property
    def total_bytes(self) -> int:
        """Bytes of all layers."""
        return sum(self.bytes)


def measure_kv(cache: Any) -> KvUse:
    """Measure a transformers cache; `dense_bytes` is arithmetic: every layer at its full logical length.

    Raises Failure for quantised caches, whose bytes lie in forms of their own.
    """
    layers = filled_layers(cache)
    for layer in layers:
        _check_whole(layer)
    seen: set[int] = set()
    return KvUse(
        tokens=tuple(int(layer.keys.shape[-2]) for layer in layers),
        bytes=tuple(_storage_bytes(layer, seen) for layer in layers),
        logical=max((int(layer.get_seq_length()) for layer in layers), default=0),
        dense_bytes=sum(_dense_bytes(layer) for layer in layers),
    )


def filled_layers(cache: Any) -> list[Any]:
    """The layers of a transformers cache that hold something; Failure where one has no place for it."""
    for layer in cache.layers:
        for name in ("keys", "values"):
            if not hasattr(layer, name):
                raise Failure(lacks("transformers", name, type(layer).__name__))
    return [layer for layer in cache.layers if layer.keys is not None]


def window_of(layer: Any) -> int | None:
    """The window of a layer that slides, None of one that keeps all; Failure where it can't be told."""
    if isinstance(layer, RoutedLayer):
        return layer.window
    if not layer.is_sliding:
        return None
    if not hasattr(layer, "sliding_window"):
        raise Failure(lacks("transformers", "sliding_window", type(layer).__name__))
    return int(layer.sliding_window)


def _check_whole(layer: Any) -> None:
    """Refuse a layer that keeps tokens elsewhere than in its keys (raises Failure)."""
    stored, logical = int(layer.keys.shape[-2]), int(layer.get_seq_length())
    slides = isinstance(layer, RoutedLayer) or layer.is_sliding
    if hasattr(layer, "_quantized_keys") or (stored < logical and not slides):
        raise Failure(
            f"the bytes of a {type(layer).__name__} can't be measured, its keys show {stored} of {logical} "
            "tokens: run the model with an ordinary KV cache (no cache_implementation in its "
            "generation_config.json)"
        )


def _storage_bytes(layer: Any, seen: set[int]) -> int:
    """Bytes of the storages behind a layer's keys and values that are not in `seen`, which they join."""
    held = 0
    for storage in (layer.keys.untyped_storage(), layer.values.untyped_storage()):
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            held += int(storage.nbytes())
    return held


def _dense_bytes(layer: Any) -> int:
    """Bytes of this layer with nothing removed; a sliding layer holds no more than its window even then."""
    length = int(layer.get_seq_length())
    window = window_of(layer)
    held = length if window is None else min(length, window - 1)
    return sum(
        tensor.shape[0] * tensor.shape[1] * held * tensor.shape[3] * tensor.element_size()
        for tensor in (layer.keys, layer.values)
    )
