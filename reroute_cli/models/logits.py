"""The logits processors of a checkpoint's settings in a padded batch: each row gets what it gets alone.

transformers counts padding as tokens of the prompt in lengths, n-grams and, in some releases, penalties. Here
the processors of every row are made for that row without its padding, by the model itself, so that they are
those of the single item whatever the settings are. Knows logits; not schedules or items.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from reroute_cli.console.errors import Failure
from reroute_cli.console.missing import lacks

_MAKER = "_get_logits_processor"

if TYPE_CHECKING:
    from reroute_cli.models.load import Loaded


class RowByRow(LogitsProcessor):
    """Processors for every row. rows: (padding before the row's prompt, its processors)."""

    def __init__(self, rows: list[tuple[int, LogitsProcessorList]]) -> None:
        self._rows = rows

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Scores (B, vocabulary) of the token that follows input_ids (B, L)."""
        done = [
            processors(input_ids[row : row + 1, padding:], scores[row : row + 1])
            for row, (padding, processors) in enumerate(self._rows)
        ]
        return torch.cat(done)  # type: ignore[return-value]


@contextmanager
def row_by_row(loaded: Loaded, inputs: Mapping[str, Any]) -> Iterator[None]:
    """While the block runs, `generate` of these inputs heeds no padding; the model is as before afterwards.

    Nothing is done where no row is padded or all settings are neutral. Raises Failure where `generate` did
    not ask for its processors in the way that is relied on.
    """
    active = bool(loaded.generation.active)
    paddings = (inputs["attention_mask"] != 0).int().argmax(dim=1).tolist() if active else []
    if not any(paddings):
        yield
        return
    if not hasattr(loaded.model, _MAKER):
        raise Failure(lacks("transformers", _MAKER, type(loaded.model).__name__))
    make, asked = getattr(loaded.model, _MAKER), []
    model = make.__self__  # a wrapper hands generate on to the model in it

    def made(*, generation_config: Any, input_ids_seq_length: int, **more: Any) -> LogitsProcessorList:
        asked.append(True)
        rows = [
            (padding, _of_row(make, generation_config, input_ids_seq_length, more, row, padding))
            for row, padding in enumerate(paddings)
        ]
        return LogitsProcessorList([RowByRow(rows)])

    setattr(model, _MAKER, made)
    try:
        yield
    finally:
        delattr(model, _MAKER)
    if not asked:
        raise Failure(lacks("transformers", _MAKER, "the course of generate"))


def _of_row(
    make: Any, settings: Any, length: int, more: dict[str, Any], row: int, padding: int
) -> LogitsProcessorList:
    """The processors of one row, as if it were alone. length: of the padded prompt."""
    own = copy.copy(settings)
    own.max_length = settings.max_length - padding
    if settings.min_new_tokens is not None:  # generate has made a length of the whole of it
        own.min_length = settings.min_length - padding
    ids, arguments = more.get("encoder_input_ids"), more.get("model_kwargs") or {}
    given = more | {
        "encoder_input_ids": None if ids is None else ids[row : row + 1, padding:],
        "model_kwargs": arguments | {"attention_mask": arguments["attention_mask"][row : row + 1, padding:]},
    }
    processors: LogitsProcessorList = make(
        generation_config=own, input_ids_seq_length=length - padding, **given
    )
    return processors
