"""Model inputs of batch 1 as the inputs of one batch, padded on the left.

Every prompt was prepared by itself, so that a bad one spoils no other and a batch can be cut in two at any
time. Knows tensors and their names; not processors, pictures or models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Inputs = Mapping[str, Any]


def collate(prompts: Sequence[Inputs], pad: int) -> dict[str, Any]:
    """One batch of B prompts, each the inputs of one: input_ids (1, L) and whatever else its family has.

    Tensors of the shape of input_ids are padded on the left (input_ids with `pad`, the others with 0). All
    others are joined along their first dimension; where the rest of their shapes differ (tiles, pixels of
    pictures of several sizes) zeros are appended, as the processors of these families do for a batch.
    """
    names = list(prompts[0])
    assert all(set(prompt) == set(names) for prompt in prompts), "prompts of one model have the same inputs"
    made = {name: _joined(name, prompts, pad) for name in names}
    if "attention_mask" not in made:
        ones = [{"input_ids": torch.ones_like(prompt["input_ids"])} for prompt in prompts]
        made["attention_mask"] = _joined("input_ids", ones, 0)
    return made


def _joined(name: str, prompts: Sequence[Inputs], pad: int) -> Any:
    values = [prompt[name] for prompt in prompts]
    if not isinstance(values[0], Tensor):
        return [part for value in values for part in value] if isinstance(values[0], list) else values[0]
    if all(prompt[name].shape == prompt["input_ids"].shape for prompt in prompts):
        return _left(values, pad if name == "input_ids" else 0)
    return _stacked(values)


def _left(rows: Sequence[Tensor], fill: int) -> Tensor:
    """(B, L) of rows (1, L_b), the shorter ones behind `fill`."""
    width = max(row.shape[1] for row in rows)
    made = rows[0].new_full((len(rows), width), fill)
    for index, row in enumerate(rows):
        made[index, width - row.shape[1] :] = row[0]
    return made


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    """Parts below one another, each with zeros appended up to the largest of every later dimension."""
    rest = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    if all(list(part.shape[1:]) == rest for part in parts):
        return torch.cat(list(parts))
    made = parts[0].new_zeros((sum(len(part) for part in parts), *rest))
    start = 0
    for part in parts:
        made[(slice(start, start + len(part)), *(slice(size) for size in part.shape[1:]))] = part
        start += len(part)
    return made
