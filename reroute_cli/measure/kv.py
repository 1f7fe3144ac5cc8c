"""What the KV cache really holds, layer by layer.

Bytes are those of the storages behind keys and values: a view that keeps a full tensor alive is counted in
full, a storage that two layers share once. Knows the layout of transformers caches, (B, heads, tokens, dim);
not models or schedules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reroute_cli.errors import Failure


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
    layers = [layer for layer in cache.layers if getattr(layer, "keys", None) is not None]
    if any(hasattr(layer, "_quantized_keys") for layer in layers):
        raise Failure(
            f"the bytes of a {type(layers[0]).__name__} can't be measured: run the model with an ordinary KV "
            "cache (no cache_implementation in its generation_config.json)"
        )
    seen: set[int] = set()
    return KvUse(
        tokens=tuple(int(layer.keys.shape[-2]) for layer in layers),
        bytes=tuple(_storage_bytes(layer, seen) for layer in layers),
        logical=max((int(layer.get_seq_length()) for layer in layers), default=0),
        dense_bytes=sum(_dense_bytes(layer) for layer in layers),
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
    window = getattr(layer, "sliding_window", getattr(layer, "window", None))  # a routed layer's is `window`
    held = length if window is None else min(length, int(window) - 1)
    return sum(
        tensor.shape[0] * tensor.shape[1] * held * tensor.shape[3] * tensor.element_size()
        for tensor in (layer.keys, layer.values)
    )
