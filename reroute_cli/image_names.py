"""How items name their images: paths as several systems write them, `file://` URIs and `data:` URIs.

A name becomes a source, which can be opened or digested later. Knows names; opens no image.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

from reroute_cli.console.errors import UsageError
from reroute_cli.console.output import shortened
from reroute_cli.images import Picture, digest_of, open_picture, read_bytes

MAX_DATA_URI = 64 << 20  # characters
_LONGEST_NAME = 4096  # characters; no system that we know opens a longer path
_DATA = re.compile(r"data:(image/[\w.+-]+)(?:;[\w.+-]+=[\w.+-]+)*;base64,", re.ASCII | re.IGNORECASE)
_FILE = re.compile(r"file://([^/]*)(/.*)", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ImageSource:
    """An image that is not opened yet.

    name: as records show it. path: where to open it. data: its bytes, where it comes from no file.
    """

    name: str
    path: str
    data: bytes | None = None

    def open(self) -> Picture:
        """The image's pixels and digest; raises Failure."""
        return open_picture(self.path, self.data)

    def digest(self) -> str:
        """SHA-256 (hex) of the image's bytes; raises Failure."""
        return self.read()[0]

    def read(self) -> tuple[str, bytes | None]:
        """SHA-256 (hex) of the image's bytes, and the bytes; raises Failure.

        They are None where the digest was known without reading the file, see `images.digest_of`.
        """
        return digest_of(self.path, self.data)

    def content(self) -> bytes:
        """The image's bytes, undecoded; raises Failure."""
        return read_bytes(self.path) if self.data is None else self.data

    def without_data(self) -> ImageSource:
        """The source without the image's bytes, to keep."""
        return self if self.data is None else replace(self, data=None)


def contents_of(images: Iterable[ImageSource]) -> tuple[str, ...]:
    """Of each image the digest of its bytes; of one that can't be read, its name."""
    return tuple(map(_content, images))


def _content(image: ImageSource) -> str:
    try:
        return image.digest()
    except Exception:  # noqa: BLE001  what is wrong with it is said where the item is asked
        return image.name


def source_of(name: str, folder: Path, where: str) -> ImageSource:
    """What an item of a manifest in this folder names; raises UsageError, which quotes little of the name.

    where: the item, as sentences name it. A path with backslashes is read with slashes where there is no such
    file as it is written.
    """
    if name[:5].lower() == "data:":
        return _of_data(name, where)
    found = _FILE.fullmatch(name)
    if found is None and "://" in name:
        raise UsageError(
            f"{where} names the address '{shortened(name)}': pictures are read from files, so download it"
        )
    if len(name) > _LONGEST_NAME:
        raise UsageError(
            f"{where} names the image '{shortened(name)}' of {len(name)} characters, and "
            "such a file does not exist"
        )
    if found is not None:
        host, path = found.groups()
        if host.lower() not in ("", "localhost"):
            raise UsageError(
                f"{where} names a file of the machine '{shortened(host)}': copy it here, images are "
                "read from files"
            )
        return ImageSource(name, unquote(path, errors="surrogateescape"))
    place = folder / name
    if "\\" in name and not exists(place):
        place = folder / name.replace("\\", "/")
    return ImageSource(name, str(place))


def exists(path: Path) -> bool:
    """Whether there is a file or folder; a name that no file can have names none."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _of_data(uri: str, where: str) -> ImageSource:
    """The image in a data URI, named after its kind, size and digest, which tell it from others."""
    if len(uri) > MAX_DATA_URI:
        raise UsageError(
            f"{where} holds an image of {len(uri)} characters, more than the {MAX_DATA_URI} that are read: "
            "save it to a file and name that"
        )
    found = _DATA.match(uri)
    if found is None:
        raise UsageError(
            f"{where} names '{shortened(uri, 40)}': a data URI of an image begins "
            "with 'data:image/png;base64,' or alike"
        )
    try:
        data = base64.b64decode(uri[found.end() :].encode("ascii"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UsageError(
            f"{where} holds an image that is no base64 ('{shortened(uri, 40)}'): encode it anew"
        ) from error
    if not data:
        raise UsageError(f"{where} holds an image of no bytes ('{shortened(uri, 40)}'): give its data")
    digest = hashlib.sha256(data).hexdigest()
    name = f"data:{found[1].lower()};base64,… ({len(data):,} bytes, SHA-256 {digest[:12]}…)"
    return ImageSource(name, name, data)
