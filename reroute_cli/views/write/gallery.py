"""The gallery: one entry for each question about an image, with every answer to it from every input.

Knows items; not how one is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from reroute_cli.views.document import DENSE, PRUNE, REROUTE, GalleryItem

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
    """Token maps first, then what rerouting gained, then other differences, then the rest, in their order.

    The same question about the same image in several inputs is one item; a trace stays by itself. Answers
    stand dense first, then method by method, pruned before rerouted.
    """
    found: dict[tuple[str, str, str], GalleryItem] = {}
    for number, item in enumerate(items):
        key = (item.image, item.question, f"trace {number}" if item.map else "")
        found[key] = _joined(found[key], item) if key in found else item
    merged = []
    for item in found.values():
        said = sorted(item.said, key=lambda one: (one.role != DENSE, one.pair, _ORDER.get(one.role, 3)))
        merged.append(replace(item, said=tuple(said)))
    ranked = sorted(merged, key=lambda item: (item.map is None, not item.gained, not item.differs))
    return ShownGallery(tuple(ranked[:most]), len(merged))


def _joined(first: GalleryItem, second: GalleryItem) -> GalleryItem:
    """An item with the answers of another input too; another answer of the same arm names its file."""
    known = {one.arm: one.answer for one in first.said}
    new = [one for one in second.said if known.get(one.arm) != one.answer]
    told = [replace(one, arm=f"{one.arm} ({second.source})") if one.arm in known else one for one in new]
    return replace(
        first,
        source=first.source if first.source == second.source else f"{first.source}, {second.source}",
        said=tuple(dict.fromkeys([*first.said, *told])),
        group=first.group or second.group,
        truth=first.truth or second.truth,
        truth_boxes=first.truth_boxes or second.truth_boxes,
    )
