"""Encoded images of a run: kept for all its answers in so many bytes, and what each pass took from them.

On a GPU those that were used last stay there, as many as an eighth of the bytes hold, and go to the host's
memory after that. Knows encoded images, their bytes, and what schedules ask of them; no model.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from reroute_cli.measure.clock import seconds_of
from routing.methods import SELECTIONS
from routing.methods.selection import Need
from routing.schedule import Schedule
from routing.vision import EncodedImage

ON_DEVICE = 8  # a GPU holds one part in so many beside what the host holds


@dataclass(frozen=True)
class KeptImage:
    """An encoded image, and the seconds that its encoding took."""

    image: EncodedImage
    seconds: float


class LeastRecent:
    """Images in so many bytes: to take one in, those go that were used longest ago."""

    def __init__(self, most: int) -> None:
        self._most, self._kept = most, OrderedDict[str, KeptImage]()
        self.bytes = 0

    def take(self, key: str) -> KeptImage | None:
        """The image of this key, which is not held any more; None where there is none."""
        found = self._kept.pop(key, None)
        self.bytes -= 0 if found is None else found.image.bytes
        return found

    def add(self, key: str, kept: KeptImage) -> list[tuple[str, KeptImage]]:
        """Hold an image under a key that holds none; returns what went, itself if it is too large alone."""
        size = kept.image.bytes
        if size > self._most:
            return [(key, kept)]
        self._kept[key] = kept
        self.bytes += size
        gone = []
        while self.bytes > self._most:
            oldest = next(iter(self._kept))
            gone.append((oldest, self._kept[oldest]))
            self.take(oldest)
        return gone


class FeatureStore:
    """The encoded images of one model in one run; threads may share it.

    most: bytes in the host's memory, 0 to keep nothing. device: of the model. needs: what selections may have
    to see of them. encoded, reused: images, or tiles of them, that the tower ran for and did not run for.
    """

    def __init__(self, most: int, device: str) -> None:
        self._device, self._off = device, most == 0
        self._near = LeastRecent(most // ON_DEVICE if device != "cpu" else 0)
        self._far = LeastRecent(most)
        self._lock = threading.Lock()
        self.needs: frozenset[Need] = frozenset()
        self.encoded = self.reused = 0

    @property
    def bytes(self) -> int:
        """Held now, on the device and in the host's memory."""
        return self._near.bytes + self._far.bytes

    def expect(self, schedules: Iterable[Schedule]) -> None:
        """Keep with every image what these schedules ask of it at the tower."""
        for stage in {schedule.vision for schedule in schedules} - {None}:
            assert stage is not None
            if SELECTIONS[stage.selection].at_the_tower:
                self.needs |= SELECTIONS[stage.selection].asked(stage)

    def for_pass(self) -> PassFeatures | None:
        """What one pass of the model encodes its images with; None where nothing is kept."""
        return None if self._off else PassFeatures(self)

    def recall(self, key: str, encode: Callable[[], EncodedImage]) -> tuple[KeptImage, bool]:
        """The image of a key on the device, and whether it was there before; encoded where it was not."""
        with self._lock:
            kept = self._near.take(key) or self._far.take(key)
        found = kept is not None and self.needs <= kept.image.needs
        if kept is None or not found:
            kept = KeptImage(*seconds_of(encode, self._device))
        kept = replace(kept, image=kept.image.to(self._device))
        with self._lock:
            for oldest, gone in self._near.add(key, kept):
                self._far.add(oldest, replace(gone, image=gone.image.to("cpu")))
            self.reused += found
            self.encoded += not found
        return kept, found


@dataclass
class PassFeatures:
    """A store as one pass of the model uses it.

    seconds: what encoding took, when it was done, of the images that this pass did not have to encode.
    """

    store: FeatureStore
    seconds: float = 0.0

    @property
    def needs(self) -> frozenset[Need]:
        """What is kept beside features."""
        return self.store.needs

    def recall(self, key: str, encode: Callable[[], EncodedImage]) -> EncodedImage:
        """The image of a key; the time of its encoding counts as this pass's where it was another's."""
        kept, found = self.store.recall(key, encode)
        self.seconds += kept.seconds if found else 0.0
        return kept.image
