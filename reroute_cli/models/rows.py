"""Rows of a batch that have ended are computed no more, while `generate` goes on with those that have not.

`generate` takes every row of a batch through the model until the last one has ended. Here hooks around the
model give it the other rows alone, and their share of the cache; what it returns is brought back to all rows,
so that `generate` itself, its logits processors and its lengths know of nothing. Knows inputs and caches; not
schedules or items.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from routing.cache import keep_samples, keeps_samples
from routing.hooks import Hooks
from routing.host import NAMES, Role

_BY_ROW = {  # inputs of a decoding step that have a value for each row, and the dimension of the rows
    **dict.fromkeys(("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"), 0),
    "position_ids": -2,
}
_OF_THE_PROMPT = ("image_grid_thw", "video_grid_thw")  # handed on by older releases, and read no more


@contextmanager
def without_ended_rows(model: Any, ends: Collection[int]) -> Iterator[None]:
    """While the block runs, a row of a `generate` call leaves the model's batch with its first end token.

    A row of n new tokens is in n - 1 decoding steps, whatever the others do. Where a step has inputs that are
    not known here, or a cache that can't lose rows, all rows stay until the last one has ended. For greedy
    search: beams move between rows.

    ends: ids of the end tokens.
    """
    rows = _Rows(ends)
    with Hooks() as hooks:
        hooks.before(model, rows.narrow)
        hooks.after(model, rows.widen)
        yield


class _Rows:
    """The rows of one `generate` call that the model computes."""

    def __init__(self, ends: Collection[int]) -> None:
        self._ends = ends
        self._cache: Any = None  # of the call, to know it by
        self._all = 0
        self._left: list[int] = []
        self._index: Any = None  # the same on the device, once a row has left

    def narrow(self, _model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A step is about to run: let go of what ended in the one before; (args, kwargs) of the rows left."""
        cache = next((kwargs[name] for name in NAMES[Role.CACHE] if name in kwargs), None)
        ids = kwargs.get("input_ids")
        if cache is None or ids is None:
            return None
        if cache.get_seq_length() == 0:  # the prompt, in which an end token ends nothing
            self._cache, self._all, self._left = cache, len(ids), list(range(len(ids)))
            return None
        if cache is not self._cache:
            return None
        newest = ids[:, -1].tolist()
        left = [row for row in self._left if newest[row] not in self._ends]
        if left and left != self._left and keeps_samples(cache) and _is_known(kwargs):
            keep_samples(cache, [self._left.index(row) for row in left])
            self._left, self._index = left, torch.tensor(left, device=ids.device)
        if len(self._left) == self._all:
            return None
        return args, {name: _of_rows(name, value, self._index) for name, value in kwargs.items()}

    def widen(self, _model: Any, _args: tuple[Any, ...], output: Any) -> Any:
        """Logits (B, n, vocabulary) of all rows: zeros for those that have ended, which nobody reads."""
        logits = output.logits
        if len(logits) == len(self._left) < self._all:
            every = logits.new_zeros((self._all, *logits.shape[1:]))
            output.logits = every.index_copy_(0, self._index.to(logits.device), logits)
        return output


def _is_known(kwargs: dict[str, Any]) -> bool:
    """Whether all tensors that a step is given are known by row, or are of no use to it."""
    tensors = (name for name, value in kwargs.items() if isinstance(value, Tensor))
    return all(name in _BY_ROW or name in _OF_THE_PROMPT for name in tensors)


def _of_rows(name: str, value: Any, rows: Tensor) -> Any:
    """An input of some rows alone."""
    if not isinstance(value, Tensor) or name not in _BY_ROW:
        return value
    return value.index_select(_BY_ROW[name], rows.to(value.device))
