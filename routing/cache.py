"""The KV-cache layer whose logical length exceeds its stored length.

It stores the keys and values of kept tokens only, and tells the framework the length of the whole prompt, so
that positions, masks and slicing stay those of the unreduced sequence. Knows nothing of scores or schedules.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from routing.errors import RoutingError, UnsupportedInputError, UnsupportedModelError
from routing.host import part, versions, what_is_proven
from routing.select import Rows

try:
    from transformers import cache_utils
    from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer
except ImportError as missing:
    raise UnsupportedModelError(
        f"transformers' caches are not where they were under {versions()} ({missing}), so nothing can be "
        f"routed; {what_is_proven()}"
    ) from missing

__all__ = [
    "Cache",
    "DynamicLayer",
    "RoutedLayer",
    "check_cache",
    "install",
    "keep_samples",
    "keeps_samples",
    "stored_rows",
]

_KEPT = (DynamicLayer, DynamicSlidingWindowLayer)  # whose place a RoutedLayer takes
_LEFT_ALONE = tuple(  # states that run over the active tokens, and layers that store nothing
    getattr(cache_utils, name)
    for name in ("LinearAttentionLayer", "DummyLayer")
    if hasattr(cache_utils, name)
)
_BOTH = tuple(  # keys and states in one layer
    getattr(cache_utils, name)
    for name in ("LinearAttentionAndFullAttentionLayer", "LinearAttentionAndSlidingWindowAttentionLayer")
    if hasattr(cache_utils, name)
)
_WHAT_WORKS = "use a fresh DynamicCache (the default) without offloading or quantisation"


class RoutedLayer(DynamicLayer):
    """Keys and values of one decoder layer after a reduced prefill.

    keys, values: (B, H_kv, S, D) with S = kept prompt tokens (right-aligned over the batch) + tokens since.
    columns: (B, W) prompt column of each stored prompt entry, -1 for filler.
    dropped: columns that are not stored; get_seq_length() = S + dropped.
    removable: trailing prompt entries that may be cropped again (guesses of assisted decoding).
    window: columns that a query sees, itself included, where it replaces a sliding-window layer, else None:
    what no later query can see is not kept. record_past: until the next `crop` it is (assisted decoding).
    forgotten: entries that were stored and are not kept any more.
    """

    keys: Tensor | None
    values: Tensor | None
    is_initialized: bool
    _newest: tuple[int, ...]  # largest column of each prompt entry over the batch, for windows

    def __init__(self, rows: Rows, removable: int, *, masked: bool = True) -> None:
        """masked: attention gets a mask over the stored columns; without one it can follow no window."""
        super().__init__()
        self.columns = rows.index
        self.ragged = rows.valid is not None
        self.dropped = rows.length - rows.width
        self.removable = removable
        self.window: int | None = None
        self.record_past = False
        self.forgotten = 0
        self._rows, self._newest = rows, ()
        self._masked = masked

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append keys and values (B, H_kv, n, D); returns all that were stored, and these.

        Raises UnsupportedInputError when the sequence outgrows a sliding window without a mask.
        """
        keys, values = super().update(key_states, value_states, *args, **kwargs)
        if self.window is not None and self.get_seq_length() > self.window and not self._masked:
            raise UnsupportedInputError(
                f"the sequence has outgrown the layer's sliding window of {self.window} tokens, "
                "which a routed cache cannot follow under flash attention; load the model with sdpa"
            )
        self._evict()
        return keys, values

    def take_place_of(self, layer: Any) -> None:
        """Go on as that cache layer would: with its window, and recording the past if it does."""
        self.window = getattr(layer, "sliding_window", None) or getattr(layer, "window", None)
        self.is_sliding = self.window is not None
        self.record_past = getattr(layer, "record_past", False)
        self._newest = self._rows.newest if self.is_sliding else ()

    def _evict(self) -> None:
        """Forget what lies outside of the window of every query to come."""
        if self.window is None or self.record_past:
            return
        first = self.get_seq_length() - self.window + 1  # column of the oldest that is seen
        prompt = len(self._newest)
        gone = bisect_left(self._newest, first)
        if gone == prompt:  # and of the tokens since
            gone += max(0, first - self._tail_start)
        self._forget_first(gone)

    @property
    def _tail_start(self) -> int:
        """Column of the first stored token that came after the prompt."""
        return self.dropped + len(self._newest)

    def _forget_first(self, rows: int) -> None:
        if not rows or self.keys is None or self.values is None:
            return
        self.keys, self.values = self.keys[..., rows:, :], self.values[..., rows:, :]
        if rows > 1:  # not one at each decoded token: a view would keep all of them until the next
            self.keys, self.values = self.keys.clone(), self.values.clone()
        self.columns, self._newest = self.columns[:, rows:], self._newest[rows:]
        self.dropped += rows
        self.forgotten += rows

    def activate_past_recording(self) -> None:
        """Keep all until the next `crop`."""
        self.record_past = True

    def get_seq_length(self) -> int:
        """Logical length: every column seen so far, stored or not."""
        stored = super().get_seq_length()
        return int(stored) + self.dropped if stored else 0

    def stored_columns(self, new: int) -> Tensor:
        """(B, S + new) sequence column of each stored key once `new` tokens are appended; -1 for filler."""
        prompt = self.columns.shape[1]
        later = int(DynamicLayer.get_seq_length(self)) + new - prompt
        start = prompt + self.dropped
        tail = torch.arange(start, start + later, device=self.columns.device).expand(len(self.columns), -1)
        return torch.cat([self.columns, tail], dim=1)

    def crop(self, length: int) -> None:
        """Remove -length trailing tokens (or, as older releases call it, keep `length` logical ones).

        Raises UnsupportedInputError when that reaches into the prompt, whose tokens were chosen together, or
        brings back what a window has forgotten.
        """
        remove = -length if length <= 0 else max(0, self.get_seq_length() - length)
        if not self.is_initialized or self.keys is None or self.values is None:
            return
        left = int(DynamicLayer.get_seq_length(self)) - remove
        if left < self.columns.shape[1] - self.removable:
            raise UnsupportedInputError(
                f"cropping {remove} tokens reaches into the routed prompt, whose tokens were chosen "
                "together; start the prompt anew on a fresh cache"
            )
        full = self.window is not None and self.get_seq_length() >= self.window
        if remove and full and not self.record_past:
            raise UnsupportedInputError(
                f"cropping {remove} tokens would bring back what a sliding window of {self.window} tokens "
                "has forgotten; call cache.activate_past_recording() before"
            )
        self.keys, self.values = self.keys[..., :left, :], self.values[..., :left, :]
        lost = max(0, self.columns.shape[1] - left)
        kept = self.columns.shape[1] - lost
        self.columns, self._newest = self.columns[:, :kept], self._newest[:kept]
        self.removable -= lost
        recording, self.record_past = self.record_past, False
        self._evict()
        self.record_past = recording

    def reset(self) -> None:
        """Forget everything; the layer is then a plain empty one."""
        super().reset()
        self.keys = self.values = None
        self.is_initialized = False
        self.columns, self._newest = self.columns[:, :0], ()
        self.dropped, self.removable, self.forgotten, self.ragged = 0, 0, 0, False

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Follow beam search: row b becomes row beam_idx[b]."""
        super().reorder_cache(beam_idx)
        self.columns = self.columns.index_select(0, beam_idx.to(self.columns.device))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every sample `repeats` times."""
        super().batch_repeat_interleave(repeats)
        self.columns = self.columns.repeat_interleave(repeats, dim=0)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the samples `indices`."""
        super().batch_select_indices(indices)
        self.columns = self.columns[indices, ...]


def check_cache(cache: Any) -> None:
    """Raise UnsupportedInputError unless a prefill into `cache` can be routed (None: no cache)."""
    if cache is None:
        return
    if not isinstance(cache, DynamicCache):
        raise UnsupportedInputError(f"a {type(cache).__name__} cannot be routed; {_WHAT_WORKS}")
    if getattr(cache, "offloading", False):
        raise UnsupportedInputError(f"an offloaded cache cannot be routed; {_WHAT_WORKS}")
    for layer in part(cache, "layers"):
        if type(layer) not in (*_KEPT, RoutedLayer, *_LEFT_ALONE):
            raise UnsupportedInputError(f"a cache of {type(layer).__name__} cannot be routed; {_WHAT_WORKS}")


def keeps_samples(cache: Any) -> bool:
    """Whether all that a cache holds is known to be kept by sample, so that `keep_samples` may drop some.

    False for static and quantised caches, whose tensors are made for one batch size, and for offloaded ones.
    """
    if type(cache) is not DynamicCache or getattr(cache, "offloading", False):
        return False
    return all(type(layer) in (*_KEPT, RoutedLayer, *_LEFT_ALONE, *_BOTH) for layer in cache.layers)


def keep_samples(cache: DynamicCache, samples: Sequence[int]) -> None:
    """Keep these samples of a cache and drop the others; theirs are copied, bit by bit.

    Done as beam search moves rows, since `batch_select_indices` does not reach the states of recurrent layers
    (transformers 5.17 to 5.24).
    """
    cache.reorder_cache(torch.tensor(samples))


def stored_rows(layer: Any) -> int | None:
    """Rows of keys that a cache layer was given: 0 while it is empty or missing, None for other kinds."""
    if layer is not None and type(layer) not in (DynamicLayer, RoutedLayer):
        return None
    keys = getattr(layer, "keys", None)
    return 0 if keys is None or not keys.numel() else int(keys.shape[-2]) + getattr(layer, "forgotten", 0)


def install(cache: DynamicCache, index: int, layer: RoutedLayer) -> None:
    """Put `layer` in place of layer `index` of a cache in which that layer is still empty.

    It takes over the window of a sliding-window layer. Raises RoutingError where the cache does not take it.
    """
    cache.layers.extend(DynamicLayer() for _ in range(index + 1 - len(cache.layers)))
    if index < len(cache.layers):
        layer.take_place_of(cache.layers[index])
        cache.layers[index] = layer
    if index >= len(cache.layers) or cache.layers[index] is not layer:
        raise RoutingError(
            f"{type(cache).__name__}.layers does not hold what is put into it (layer {index}) under "
            f"{versions()}, so the cache cannot be routed; {what_is_proven()}"
        )
