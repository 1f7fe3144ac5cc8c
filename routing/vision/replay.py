"""Encode once: what a vision tower made of an image, put in the place of running it again.

Inside `encode_once` the tower of an unmodified model runs only for images that were not encoded before, each
by itself, so that what is kept of an image does not depend on which others were asked with it. Kept are its
features, as the base model reads them, and what selections see beside them; a `route` inside chooses from
these anew every time. An image is known by what enters the tower: its pixels, its grid and the settings.

Knows towers; not who keeps the features, nor for how long.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor

from routing.errors import RoutingError, UnsupportedModelError
from routing.families import locate
from routing.families.encoders import MergedStage
from routing.families.family import Missing
from routing.hooks import Hooks
from routing.host import compiled_call
from routing.methods.selection import Chosen, Need, Seen, Selection
from routing.schedule import VisionStage
from routing.vision.collector import VisionCollector
from routing.vision.hooked import Call, HookedTower, Output
from routing.vision.merged import MergedTower
from routing.vision.patches import PatchTower

PLAIN = (bool, int, float, str, type(None))  # settings of a call whose text says all of them


@dataclass(frozen=True)
class EncodedImage:
    """One image, or tile of one, as a tower puts it out.

    kind: the class of the tower's output; output: its fields that the base model reads. found: the fields of
    `Seen` that `needs` name, each (P, ...) in raster order.
    """

    kind: type[Any]
    output: Output
    found: dict[str, Tensor]
    needs: frozenset[Need]

    @property
    def bytes(self) -> int:
        """Of all its tensors."""
        tensors = [*self.found.values()]
        for value in self.output.values():
            tensors += [value] if isinstance(value, Tensor) else [one for one in value if one is not None]
        return sum(tensor.nbytes for tensor in tensors)

    def to(self, device: torch.device | str) -> EncodedImage:
        """The same on a device; itself where it is there already."""
        return replace(
            self,
            output={name: _each(lambda one: one.to(device), value) for name, value in self.output.items()},
            found={name: value.to(device) for name, value in self.found.items()},
        )


class Features(Protocol):
    """Who keeps encoded images. needs: what selections may ask for beside features."""

    @property
    def needs(self) -> frozenset[Need]:
        """Of all selections that may come; one that asks for more runs the tower as it is."""

    def recall(self, key: str, encode: Callable[[], EncodedImage]) -> EncodedImage:
        """The image of this key with all `needs`, on the tower's device; encoded where it is not kept."""


class Replay:
    """Stands in for a tower's forward. reader: the tower's hooks of the route that is open, if it has any."""

    def __init__(self, forward: Callable[..., Any], recorder: HookedTower, features: Features) -> None:
        self._forward, self._recorder, self._features = forward, recorder, features
        self.reader: HookedTower | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The tower's output for a call, put together of images that are kept or encoded now."""
        calls = [] if torch.is_grad_enabled() else self._recorder.alone(args, kwargs)
        keys = [_key(call) for call in calls]
        known = self.reader is None or self.reader.needs <= self._recorder.needs
        if not known or not keys or not all(keys):
            output = self._forward(*args, **kwargs)
            self._recorder.caught.clear()
            return output
        images = [
            self._features.recall(key, partial(self._encode, call))
            for key, call in zip(keys, calls, strict=True)
        ]
        if self.reader is not None:
            self.reader.give([image.found for image in images])
        along = int(kwargs.get("image_sizes") is not None)  # images of several sizes stand in one row
        fields = {
            name: _each(lambda *parts: torch.cat(parts, along), *(image.output[name] for image in images))
            for name in images[0].output
        }
        return images[0].kind(**fields)

    def __reduce__(self) -> NoReturn:
        raise RoutingError("a model can't be copied or pickled while its images are encoded once")

    def _encode(self, call: Call) -> EncodedImage:
        args, kwargs = call
        recorder = self._recorder
        recorder.caught.clear()
        recorder.note_images(recorder.tower, args, kwargs)
        output = self._forward(*args, **kwargs)
        (found,) = recorder.found()
        recorder.caught.clear()
        return EncodedImage(type(output), recorder.kept(output), found, recorder.needs)


@contextmanager
def encode_once(model: Any, features: Features) -> Iterator[None]:
    """Inside the `with`, the vision tower of `model` runs only for images that `features` does not keep.

    Open `routing.route` inside it. Answers are those without it: to the bit where a call of the tower has one
    image or tile, and up to the rounding of matrix products of another height where it has more. A model
    whose tower is not known, or is compiled, is left alone; so are videos and calls that record gradients.
    """
    recorder = _recorder(model, features.needs)
    if recorder is None or compiled_call(recorder.tower) is not None:
        yield
        return
    tower = recorder.tower
    before, replay = vars(tower).get("forward"), Replay(tower.forward, recorder, features)
    with Hooks() as hooks:
        recorder.watch(hooks)
        if before is not None:  # another library's stand-in, put back last
            hooks.callback(setattr, tower, "forward", before)
        hooks.callback(delattr, tower, "forward")
        tower.forward = replay
        yield


def hand_over(reader: HookedTower, hooks: Hooks) -> None:
    """Until `hooks` close, let a route have what was found of images that its tower won't run for."""
    replay = vars(reader.tower).get("forward")
    if isinstance(replay, Replay):
        replay.reader = reader
        hooks.callback(setattr, replay, "reader", None)


def _recorder(model: Any, needs: frozenset[Need]) -> HookedTower | None:
    """The tower of a model, to be watched for these needs; None where it is not known."""
    try:
        location = locate(model)
        stage = location.family.vision_stage
        if isinstance(stage, Missing):
            return None
        asking = Selection(needs, _choose_nothing, lambda _sizes, _stage: 0)
        watched = VisionCollector(VisionStage(0.5), asking, int)
        if isinstance(stage, MergedStage):
            return MergedTower(location.base, stage, "column_mean", watched)
        return PatchTower(location.base, stage, "column_mean", watched)
    except UnsupportedModelError:
        return None


def _choose_nothing(_seen: Sequence[Seen], _counts: Sequence[int], _stage: VisionStage) -> list[Chosen]:
    raise AssertionError("a tower that is only watched hands no image to a selection")


def _key(call: Call) -> str:
    """SHA-256 (hex) of all that a tower is called with; "" where an argument can't be told by its value."""
    digest = hashlib.sha256()
    args, kwargs = call
    for name, value in [*enumerate(args), *sorted(kwargs.items())]:
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().flatten().view(torch.uint8).numpy().data)
        elif isinstance(value, PLAIN) or (
            isinstance(value, list | tuple) and all(isinstance(one, PLAIN) for one in value)
        ):
            digest.update(f"{name} {value!r}\n".encode())
        else:
            return ""
    return digest.hexdigest()


def _each(work: Callable[..., Tensor], *parts: Any) -> Any:
    """`work` of the tensors that stand at the same place of each of `parts`."""
    if isinstance(parts[0], Tensor):
        return work(*parts)
    return tuple(None if each[0] is None else work(*each) for each in zip(*parts, strict=True))
