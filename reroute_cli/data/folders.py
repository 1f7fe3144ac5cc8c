"""Which files of a folder are images, in an order that does not change.

A name with a suffix says it. A file whose name has none, as in folders that are named after digests, is a
image where Pillow knows its first bytes; no other file is opened.

Folders in it are walked, folders that links lead to as well, each once: a link that leads back up to a folder
around it, or to a folder that was walked, is not followed. A linked image is found once, under its own name
where that is in the folder and says what it is, else under the first link's. Hidden names are passed over.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from reroute_cli.data.images import begins_like_an_image

SUFFIXES = frozenset(
    (
        *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".gif", ".bmp"),
        *(".tif", ".tiff"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".ico", ".avif", ".avifs"),
        *(".heic", ".heif", ".hif", ".heics", ".heifs"),
        *(".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    )
)
Name = tuple[str, ...]  # a path below the folder, part by part: in this order are images sorted


@dataclass(frozen=True)
class FoundImages:
    """What a folder holds. skipped: files and hidden folders that were passed over.

    unreadable: folders below that can't be listed, with the system's reason.
    """

    images: tuple[Name, ...]
    skipped: int
    unreadable: tuple[tuple[Name, str], ...]


def find_image_files(folder: Path) -> FoundImages:
    """Every image file below a folder, sorted; raises OSError where the folder itself can't be listed."""
    os.scandir(folder).close()
    walk = _Walk(os.path.realpath(folder))
    walk.enter(walk.top, ())
    while walk.folder_links:
        links, walk.folder_links = sorted(walk.folder_links), []
        for name, holder, target in links:
            if not walk.leads_up(holder, target):
                walk.enter(target, name)
    for name, target in sorted(walk.file_links):
        walk.add_linked(name, target)
    for name, target in [*sorted(walk.unnamed), *sorted(walk.unnamed_links)]:
        walk.add_unnamed(name, target)
    return FoundImages(tuple(sorted(walk.images)), walk.skipped, tuple(sorted(walk.unreadable)))


@dataclass
class _Walk:
    """What was seen so far. Folders and targets are real paths; links wait until real folders are walked."""

    top: str
    images: list[Name] = field(default_factory=list)
    skipped: int = 0
    unreadable: list[tuple[Name, str]] = field(default_factory=list)
    walked: set[str] = field(default_factory=set)
    linked: set[str] = field(default_factory=set)
    folder_links: list[tuple[Name, str, str]] = field(default_factory=list)  # name, folder it is in, target
    file_links: list[tuple[Name, str]] = field(default_factory=list)
    unnamed: list[tuple[Name, str]] = field(default_factory=list)  # files without a suffix
    unnamed_links: list[tuple[Name, str]] = field(default_factory=list)  # links without a suffix

    def enter(self, place: str, name: Name) -> None:
        """Walk a real folder that is called `name`, and real folders in it, but for those walked before."""
        waiting = [(place, name)]
        while waiting:
            place, name = waiting.pop()
            if place in self.walked:
                continue
            self.walked.add(place)
            for entry in self._entries(place, name):
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, (*name, entry.name)))
                elif entry.is_symlink():
                    self._add_link(entry, (*name, entry.name), place)
                elif entry.is_file(follow_symlinks=False) and is_image_name(entry.name):
                    self.images.append((*name, entry.name))
                elif entry.is_file(follow_symlinks=False) and _has_no_suffix(entry.name):
                    self.unnamed.append(((*name, entry.name), entry.path))
                else:  # a pipe is no file
                    self.skipped += 1

    def _entries(self, place: str, name: Name) -> Iterator[os.DirEntry[str]]:
        """What is in a folder but for hidden things, which are counted."""
        try:
            with os.scandir(place) as listed:
                entries = list(listed)
        except OSError as error:
            self.unreadable.append((name, error.strerror or type(error).__name__))
            return
        shown = [entry for entry in entries if not entry.name.startswith(".")]
        self.skipped += len(entries) - len(shown)
        yield from shown

    def _add_link(self, entry: os.DirEntry[str], name: Name, holder: str) -> None:
        """Keep a link for later; one that leads nowhere may be called an image, and fails to open."""
        try:
            kind = entry.stat().st_mode
        except OSError:
            kind = 0
        if not kind and is_image_name(entry.name):
            self.images.append(name)
        elif stat.S_ISDIR(kind):
            self.folder_links.append((name, holder, os.path.realpath(entry.path)))
        elif stat.S_ISREG(kind) and is_image_name(entry.name):
            self.file_links.append((name, os.path.realpath(entry.path)))
        elif stat.S_ISREG(kind) and _has_no_suffix(entry.name):
            self.unnamed_links.append((name, os.path.realpath(entry.path)))
        else:
            self.skipped += 1

    def leads_up(self, holder: str, target: str) -> bool:
        """Whether a link in `holder` leads to a folder around it or around the top."""
        return any(os.path.commonpath((target, place)) == target for place in (holder, self.top))

    def add_linked(self, name: Name, target: str) -> None:
        """Take a linked file that was not found under its own name, nor through another link."""
        if not self._is_found(target):
            self.linked.add(target)
            self.images.append(name)

    def add_unnamed(self, name: Name, target: str) -> None:
        """Take what is called by no suffix where its content is an image's that was not found otherwise."""
        if self._is_found(target):
            return
        if begins_like_an_image(target):
            self.linked.add(target)
            self.images.append(name)
        else:
            self.skipped += 1

    def _is_found(self, target: str) -> bool:
        """Whether a file was taken under its own name, which says that it is an image, or through a link."""
        folder, file = os.path.split(target)
        own = folder in self.walked and is_image_name(file) and not file.startswith(".")
        return own or target in self.linked


def is_image_name(name: str) -> bool:
    """Whether a file is called as images are."""
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122  no Path for each of a million names


def _has_no_suffix(name: str) -> bool:
    """Whether a name says nothing about the file."""
    return not os.path.splitext(name)[1]  # noqa: PTH122
