"""Images that several prompts of a batch show are encoded once.

The base model's own `get_image_features` is called on the first of several equal groups of images, and the
others get its features. Knows no tower.
"""

from __future__ import annotations

from functools import partial, update_wrapper
from math import gcd
from typing import Any

import torch
from torch import Tensor

from routing.hooks import Hooks
from routing.vision.collector import VisionCollector

ENCODE = "get_image_features"  # of base models


def encode_once(base: Any, anchors: VisionCollector | None, hooks: Hooks) -> None:
    """Until `hooks` close, encode equal groups of images in one call of the base model once.

    anchors: what is told of the images that were chosen from at the tower. A model that encodes images in
    another way encodes every one.
    """
    encode = getattr(base, ENCODE, None)
    if encode is None or ENCODE in vars(base):
        return
    setattr(base, ENCODE, update_wrapper(partial(_encoded, base, anchors), encode))
    hooks.callback(delattr, base, ENCODE)


def _encoded(base: Any, anchors: VisionCollector | None, *args: Any, **kwargs: Any) -> Any:
    """The features of all images, of the model's own making."""
    encode = partial(getattr(type(base), ENCODE), base)
    told = {name: value for name, value in kwargs.items() if isinstance(value, Tensor) and value.ndim}
    copies = 1 if args else equal_groups(list(told.values()))
    if copies == 1:
        return encode(*args, **kwargs)
    first = {name: value[: len(value) // copies] for name, value in told.items()}
    output = encode(**{**kwargs, **first})
    features = output.pooler_output
    repeated = [features] * copies if isinstance(features, Tensor) else list(features) * copies
    output.pooler_output = torch.cat(repeated) if isinstance(features, Tensor) else repeated
    if anchors is not None:
        anchors.repeat(copies)
    return output


def equal_groups(told: list[Tensor]) -> int:
    """The most groups, all of them equal, that these tensors fall into along their first dimension."""
    most = gcd(*map(len, told))
    for groups in range(most, 1, -1):
        if most % groups == 0 and all(_repeats(one, groups) for one in told):
            return groups
    return 1


def _repeats(one: Tensor, groups: int) -> bool:
    first, *others = one.chunk(groups)
    return all(torch.equal(first, other) for other in others)
