"""What was chosen of each image while a tower encoded them, kept until the prompt that shows them runs.

Knows no model and registers no hook: towers bring tensors in, the engine takes selections out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, compress

import torch
from torch import Tensor

from routing.errors import UnsupportedInputError
from routing.methods.selection import Chosen, Need, Seen, Selection
from routing.schedule import VisionStage


@dataclass(frozen=True)
class VisionSelection:
    """What the vision stage kept of one sample, its pictures one after another in the order of the prompt.

    kept: (K,) int64, ascending indices among the sample's V visual tokens.
    scores: (V,) float32, what ranked them within each picture; None if everything was kept unranked.
    """

    kept: Tensor
    scores: Tensor | None


@dataclass(frozen=True)
class Encoded:
    """One image's tokens, or those of a view of it, as a tower shows them to a collector.

    places, total: (V,) int64, where these tokens stand among `total`, if there are more; the others, which
    have no place in the image, rank behind all of them.
    """

    seen: Seen
    places: Tensor | None = None
    total: int | None = None


class VisionCollector(threading.local):
    """What was chosen of the images that this thread encoded last, kept until their prompt runs.

    stage: has the settings of the selection. count: visual tokens of an image -> how many of them to keep
    (1 .. V).
    """

    def __init__(self, stage: VisionStage, selection: Selection, count: Callable[[int], int]) -> None:
        self._stage, self._selection, self._count = stage, selection, count
        self._images: list[Chosen] = []

    @property
    def needs(self) -> frozenset[Need]:
        """What a tower has to bring beside features."""
        return self._selection.asked(self._stage)

    def begin(self) -> None:
        """Forget earlier images: a vision tower starts to encode new ones."""
        self._images = []

    def reduce(self, images: Sequence[Encoded]) -> list[Tensor]:
        """Choose among each image's V tokens, remember what was chosen, return the features (V, c) of each.

        images: all of one encoding, in order. Nothing is changed where every token is kept.
        """
        seen = [self._as_asked(image.seen) for image in images]
        counts = [
            self._count(len(one.features) if image.total is None else image.total)
            for one, image in zip(seen, images, strict=True)
        ]
        fewer = [count < len(one.features) for one, count in zip(seen, counts, strict=True)]
        asked = list(compress(seen, fewer)), list(compress(counts, fewer))
        found = iter(self._selection.choose(*asked, self._stage) if any(fewer) else ())
        features = []
        for image, one, count, some in zip(images, seen, counts, fewer, strict=True):
            chosen = next(found) if some else _everything(one)
            features.append(one.features if chosen.features is None else chosen.features)
            if image.places is not None and image.total is not None:
                chosen = _among(chosen, image.places, image.total, count)
            self._images.append(replace(chosen, features=None))
        return features

    def _as_asked(self, seen: Seen) -> Seen:
        """With attention from all tokens in place of that from one, where the tower has none such."""
        if Need.ATTENTION in self._selection.needs and seen.attention is None:
            return replace(seen, attention=seen.received)
        return seen

    def repeat(self, copies: int) -> None:
        """The images encoded last stand for so many groups of them, one after another in a prompt batch."""
        self._images = self._images * copies

    def take(self, visual_tokens: Sequence[int]) -> tuple[VisionSelection, ...]:
        """What was kept of each sample of a prompt, given its samples' visual tokens; forgets the pictures.

        Samples may show several pictures or none. Samples repeated by beam search (each of them as often as
        the others, side by side) share the pictures encoded once. Raises UnsupportedInputError where pictures
        and prompt do not match.
        """
        if self._stage.keep_ratio == 1.0 or not any(visual_tokens):
            return tuple(VisionSelection(torch.arange(count), None) for count in visual_tokens)
        images, self._images = self._images, []
        groups = _share(images, list(visual_tokens))
        if groups is None:
            encoded = [len(one.scores) for one in images]
            raise UnsupportedInputError(
                f"the vision stage reduced pictures of {encoded} visual tokens, but the samples of the "
                f"prompt hold {list(visual_tokens)}: encode the pictures of a prompt, and no videos, inside "
                "the same route() that processes it"
            )
        selections = []
        for group in groups:
            starts = accumulate((len(one.scores) for one in group), initial=0)
            kept = [one.kept + start for one, start in zip(group, starts, strict=False)]
            scores = [one.scores for one in group]
            selections.append(
                VisionSelection(torch.cat(kept), torch.cat(scores))
                if group
                else VisionSelection(torch.arange(0), torch.zeros(0))
            )
        return tuple(selections)


def _everything(seen: Seen) -> Chosen:
    """All tokens, ranked by their attention where that is known."""
    features, ranked = seen.features, seen.attention
    every = torch.arange(len(features), device=features.device)
    return Chosen(every, torch.zeros(len(features), device=features.device) if ranked is None else ranked)


def _among(chosen: Chosen, places: Tensor, total: int, count: int) -> Chosen:
    """What was chosen, as indices among `total` tokens, of which more are kept where these do not suffice."""
    last = chosen.scores.min() - 1
    scores = last.expand(total).index_copy(0, places, chosen.scores)
    if count <= len(places):
        return Chosen(places[chosen.kept], scores)
    return Chosen(scores.argsort(descending=True, stable=True)[:count].sort().values, scores)


def _share(images: list[Chosen], samples: list[int]) -> list[list[Chosen]] | None:
    """Deal the images out to samples of so many visual tokens each; None if that does not come out."""
    held = sum(len(one.scores) for one in images)
    copies = sum(samples) // held if held else 0
    if not copies or samples != [size for size in samples[::copies] for _ in range(copies)]:
        return None
    rest, groups = list(images), []
    for size in samples[::copies]:
        group: list[Chosen] = []
        while rest and sum(len(one.scores) for one in group) < size:
            group.append(rest.pop(0))
        if sum(len(one.scores) for one in group) != size:
            return None
        groups.append(group)
    return [group for group in groups for _ in range(copies)]
