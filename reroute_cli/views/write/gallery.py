"""The gallery: one entry for each question about an image, with every answer to it from every input.

Its images are found, decoded by us, made smaller and encoded anew. A record says only a name, and may have
been written by anybody: files are looked for below the folders that the caller allows and nowhere else, but
for an image whose SHA-256 the record knows. Knows items and images; not how one is drawn.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from reroute_cli.console.errors import CliError
from reroute_cli.views.document import DENSE, PRUNE, REROUTE, GalleryItem

if TYPE_CHECKING:
    from PIL import Image

    from reroute_cli.data.images import Picture

_ORDER = {DENSE: 0, PRUNE: 1, REROUTE: 2}
_LADDER = ((640, 82), (480, 78), (360, 74), (256, 68), (160, 60))  # longest side, WebP quality
_LONGEST = _LADDER[0][0]


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


@dataclass(frozen=True)
class InlinedImage:
    """One image in the page. width, height: of the original, in pixels, as boxes count them."""

    key: str
    width: int
    height: int
    uri: str


@dataclass(frozen=True)
class PageImages:
    """Images by the names that records have for them; what was not found, and what did not fit."""

    pictures: dict[str, InlinedImage] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    left_out: int = 0
    longest: int = _LONGEST

    @property
    def shrunk(self) -> bool:
        """Whether images were made smaller than they would be with more room."""
        return self.longest < _LONGEST


@dataclass(frozen=True)
class _Found:
    name: str
    width: int
    height: int
    pixels: Image.Image


def find_images(items: Iterable[GalleryItem], folders: Sequence[Path]) -> ImageMatches:
    """Every image of these items that is there, decoded once."""
    found, missing = {}, []
    for item in items:
        if not item.image or item.image in found or item.image in missing:
            continue
        picture = _open(item, folders)
        if picture is None:
            missing.append(item.image)
            continue
        width, height = picture.size
        pixels = picture.pixels.copy()
        pixels.thumbnail((_LONGEST, _LONGEST))
        found[item.image] = _Found(item.image, width, height, pixels)
    return ImageMatches(tuple(found.values()), tuple(missing))


@dataclass(frozen=True)
class ImageMatches:
    """Images that were found, before it is known how much room they have."""

    found: tuple[_Found, ...]
    missing: tuple[str, ...]

    def fit(self, room: int) -> PageImages:
        """All images at the largest size that fits into so many bytes; else, at the smallest, the first."""
        for longest, quality in _LADDER:
            uris = []
            for one in self.found:
                data, small = io.BytesIO(), one.pixels.copy()
                small.thumbnail((longest, longest))
                small.save(data, "WEBP", quality=quality, method=4)
                uris.append(f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode('ascii')}")
            if sum(map(len, uris)) <= room:
                return self._album(uris, longest)
        longest = _LADDER[-1][0]
        kept, used = [], 0
        for uri in uris:
            if used + len(uri) > room:
                break
            kept.append(uri)
            used += len(uri)
        return self._album(kept, longest)

    def blank(self) -> PageImages:
        """All of them with nothing in them: what a page takes without their bytes."""
        return self._album([""] * len(self.found), _LONGEST)

    def _album(self, uris: Sequence[str], longest: int) -> PageImages:
        pairs = zip(self.found, uris, strict=False)
        pictures = {
            one.name: InlinedImage(f"p{number}", one.width, one.height, uri)
            for number, (one, uri) in enumerate(pairs, start=1)
        }
        return PageImages(pictures, self.missing, len(self.found) - len(uris), longest)


def _open(item: GalleryItem, folders: Sequence[Path]) -> Picture | None:
    """The image that a record names: below the folders, or anywhere where the record knows its digest.

    None where it is not to be had.
    """
    from reroute_cli.data.images import open_image

    for place in [*_places(item.image, folders), *([] if item.digest is None else [item.image])]:
        try:
            picture = open_image(str(place))
        except (CliError, OSError, ValueError):
            continue
        if item.digest is None or picture.digest == item.digest:
            return picture
    return None


def _places(name: str, folders: Sequence[Path]) -> list[Path]:
    """Files of this name below the folders, links followed; never beside or above them."""
    found = []
    for folder in folders:
        try:
            root = folder.resolve()
            place = (root / name).resolve()
            if place.is_relative_to(root) and place.is_file():
                found.append(place)
        except (OSError, ValueError, RuntimeError):
            continue
    return found
