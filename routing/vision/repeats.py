"""Images that several prompts of a batch show are encoded once.

The base model's own `get_image_features` is called on the first of several equal groups of images, and the
others get its features. Knows no tower.
"""

from __future__ import annotations

import inspect
from functools import partial
from math import gcd
from typing import Any

import torch
from torch import Tensor

from routing.hooks import Hooks
from routing.vision.collector import VisionCollector

ENCODE = "get_image_features"  # of base models


def encode_repeats_once(base: Any, anchors: VisionCollector | None, hooks: Hooks) -> None:
    """Until `hooks` close, encode equal groups of images in one call of the base model once.

    anchors: what is told of the images that were chosen from at the tower. A model that encodes images in
    another way encodes every one.
    """
    if not hasattr(type(base), ENCODE) or ENCODE in vars(base):
        return
    lasts = [True]
    setattr(base, ENCODE, RepeatedImages(base, anchors, lasts))
    hooks.callback(delattr, base, ENCODE)
    hooks.callback(lasts.clear)


class RepeatedImages:
    """Stands for the method of one base model that encodes images; copies of the model have copies of it.

    lasts: empty when the block is over, and every image is encoded again.
    """

    def __init__(self, base: Any, anchors: VisionCollector | None, lasts: list[bool]) -> None:
        self._base, self._anchors, self._lasts = base, anchors, lasts
        self._encode = partial(getattr(type(base), ENCODE), base)
        self.__signature__ = inspect.signature(self._encode)  # by which generate() chooses what to pass

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The features of all images, of the model's own making."""
        given = dict(zip(self.__signature__.parameters, args, strict=False)) | kwargs
        told = {name: value for name, value in given.items() if isinstance(value, Tensor) and value.ndim}
        copies = equal_groups(list(told.values())) if self._lasts else 1
        if copies == 1:
            return self._encode(*args, **kwargs)
        output = self._encode(**given | {name: value[: len(value) // copies] for name, value in told.items()})
        features = output.pooler_output
        repeated = [features] * copies if isinstance(features, Tensor) else list(features) * copies
        output.pooler_output = torch.cat(repeated) if isinstance(features, Tensor) else repeated
        if self._anchors is not None:
            self._anchors.repeat(copies)
        return output

    def __deepcopy__(self, memo: dict[int, Any]) -> RepeatedImages:
        return RepeatedImages(memo[id(self._base)], self._anchors, self._lasts)


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
