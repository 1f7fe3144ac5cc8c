"""The gallery: one entry for each question about a picture, with every answer to it from every input.

Knows items; not how one is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from reroute_cli.views.document import DENSE, PRUNE, REROUTE, ArmAnswer, GalleryItem

_ORDER = {DENSE: 0, PRUNE: 1, REROUTE: 2}


@dataclass(frozen=True)
class ShownGallery:
    """The items of a page, the telling first. total: how many there are."""

    items: tuple[GalleryItem, ...]
    total: int

    @property
    def differing(self) -> int:
        """How many have different answers."""
        return sum(item.differs for item in self.items)

    @property
    def gained(self) -> int:
        """How many rerouting gets right where pruning as much does not."""
        return sum(item.gained for item in self.items)


def gallery_of(items: Iterable[GalleryItem], most: int) -> ShownGallery:
    """Token maps first, then what rerouting gained, then other differences, then the rest, in their order."""
    merged = _merged(items)
    ranked = sorted(merged, key=lambda item: (item.map is None, not item.gained, not item.differs))
    return ShownGallery(tuple(ranked[:most]), len(merged))


def _merged(items: Iterable[GalleryItem]) -> list[GalleryItem]:
    """The same question about the same picture in several inputs is one item; a trace stays by itself."""
    found: dict[tuple[str, str, str], GalleryItem] = {}
    for number, item in enumerate(items):
        key = (item.image, item.question, f"trace {number}" if item.map else "")
        found[key] = _joined(found[key], item) if key in found else item
    return [replace(item, said=_sorted(item.said)) for item in found.values()]


def _joined(first: GalleryItem, second: GalleryItem) -> GalleryItem:
    said = dict.fromkeys([*first.said, *_new(first.said, second)])
    return replace(
        first,
        source=first.source if first.source == second.source else f"{first.source}, {second.source}",
        said=tuple(said),
        group=first.group or second.group,
        truth=first.truth or second.truth,
        truth_boxes=first.truth_boxes or second.truth_boxes,
    )


def _new(said: tuple[ArmAnswer, ...], item: GalleryItem) -> list[ArmAnswer]:
    """Answers that are not there yet; another answer under the same name says which file it is from."""
    known = {one.arm: one.answer for one in said}
    told = [one for one in item.said if known.get(one.arm) != one.answer]
    return [replace(one, arm=f"{one.arm} ({item.source})") if one.arm in known else one for one in told]


def _sorted(said: tuple[ArmAnswer, ...]) -> tuple[ArmAnswer, ...]:
    """Dense first, then method by method, pruned before rerouted."""
    return tuple(sorted(said, key=lambda one: (one.role != DENSE, one.pair, _ORDER.get(one.role, 3))))
