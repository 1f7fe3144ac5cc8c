"""Images: what names them, files and data URIs, and their pixels as a model should see them.

Pixels are upright, RGB, eight bits, of the first frame. What is transparent becomes white. The stored colours
are taken as they are, as in the images that models learn from: a colour profile in the file is not applied.
HEIC and HEIF, as phones save images, are known by their first bytes and decoded by pillow-heif, an extra;
that decoder turns an image as the file says, and takes the turn out of its EXIF. Knows Pillow and nothing of
models. Whatever a file holds, it ends as an image or as one sentence. May be called from several threads.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import os
import re
import stat
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.output import shortened

MAX_DATA_URI = 64 << 20  # characters
_LONGEST_NAME = 4096  # characters; no system that we know opens a longer path
_DATA = re.compile(r"data:(image/[\w.+-]+)(?:;[\w.+-]+=[\w.+-]+)*;base64,", re.ASCII | re.IGNORECASE)
_FILE = re.compile(r"file://([^/]*)(/.*)", re.DOTALL | re.IGNORECASE)
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO", "AVIF", "JPEG2000")
MAX_FILE_BYTES = 1 << 30
LONGEST_SHOWN = 512  # characters of a path in a sentence
MAX_ASPECT = 200  # processors scale the shorter side up: an image of 1 x 60000 would become gigabytes
_SIXTEEN_BIT = 65535
_MOST_REMEMBERED = 1 << 16  # files
_SETTLED_NS = 2_000_000_000  # a younger file may be written again without a change of its times
ImageLike: TypeAlias = str | os.PathLike[str] | Image.Image  # what Python gives: a file's path, or pixels
_Identity: TypeAlias = tuple[str, int, int, int, int, int]
_remembered: dict[_Identity, str] = {}  # what a file was when it was read -> its digest, the oldest first
_remembering = threading.Lock()
_HEIF = "HEIF"  # what the decoder is called in Pillow
_HEAD = 64  # bytes that tell a file
# ISO/IEC 23008-12, annex B
_HEIF_CODED = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_HEIF_ANY = {b"mif1", b"mif2", b"msf1"}  # the container alone, whatever the coding
_AVIF = {b"avif", b"avis"}
_TURNS = {  # EXIF orientation -> what makes the stored pixels upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Picture:
    """One opened image: RGB pixels with the EXIF orientation applied, and the digest of its file."""

    path: str
    pixels: Image.Image
    digest: str

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, as boxes count them."""
        width, height = self.pixels.size
        return width, height

    def resized(self, size: tuple[int, int]) -> Picture:
        """The same image at another width and height; where it shrinks, a pixel is of all those it covers."""
        return replace(self, pixels=self.pixels.resize(size, Image.Resampling.LANCZOS))


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
        return open_image(self.path, self.data)

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
            f"{where} names the address '{shortened(name)}': images are read from files, so download it"
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


def as_list(images: ImageLike | Sequence[ImageLike]) -> list[ImageLike]:
    """One or several images that Python code gives, as a list."""
    one = isinstance(images, str | os.PathLike | Image.Image)
    return [images] if one else list(images)  # type: ignore[list-item, arg-type]


def as_source(image: ImageLike) -> ImageSource:
    """An image that Python code gives; raises Failure for pixels that no model can see.

    Pixels are known by a digest of what a model sees of them, not by a file's, so that their answers have
    keys of their own.
    """
    if not isinstance(image, Image.Image):
        return ImageSource(os.fspath(image), os.fspath(image))
    try:
        pixels = as_seen(image, "the image")
    except Image.DecompressionBombError as error:
        limit = (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise Failure(f"the image has more than {limit} million pixels: shrink it first") from error
    held = io.BytesIO()
    pixels.save(held, "PPM")  # bytes as they are: no encoder's version changes the digest
    data = held.getvalue()
    width, height = pixels.size
    name = f"image of {width} × {height} pixels, SHA-256 {hashlib.sha256(data).hexdigest()[:12]}…"
    return ImageSource(name, name, data)


def open_image(path: str, data: bytes | None = None) -> Picture:
    """Open an image file; raises Failure with one sentence for everything that is none.

    data: the file's bytes where they are at hand already; `path` is then only their name.
    """
    shown = shortened(as_text(path), LONGEST_SHOWN)
    data = _read(path, shown) if data is None else data
    formats = _formats()
    if _is_heif(data[:_HEAD]):
        try:
            from pillow_heif import register_heif_opener
        except ImportError as error:
            raise Failure(
                f"'{shown}' is HEIC: pip install 'reroute[heif]', or save it as JPEG or PNG"
            ) from error
        register_heif_opener(thumbnails=False)  # as often as one likes, from any thread
        formats = [_HEIF]
    pixels = _decode(shown, data, formats)
    _check_sides(shown, pixels)
    return Picture(path, pixels, hashlib.sha256(data).hexdigest())


def as_seen(image: Image.Image, shown: str) -> Image.Image:
    """An image that Pillow has opened already, as a model should see it; raises what open_image does."""
    _check_pixels(image)
    image.load()  # before its EXIF is read: Pillow may turn it, and then says so there
    pixels = _rgb(_upright(image))
    _check_sides(shown, pixels)
    return pixels


def digest_of(path: str, data: bytes | None = None) -> tuple[str, bytes | None]:
    """SHA-256 of an image file's bytes, undecoded, and the bytes; takes and raises what open_image does.

    A digest is remembered for as long as the file's place, size and times stay the same: the file is not
    read again then, and the bytes are None.
    """
    if data is not None:
        return hashlib.sha256(data).hexdigest(), data
    identity: _Identity | None = None  # what tells a file from what it was before it changed
    with suppress(OSError, ValueError):  # the system knows no such file
        at = os.stat(path)  # noqa: PTH116  no Path for each of a million names
        identity = path, at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns
    if identity is not None and (known := _remembered.get(identity)) is not None:
        return known, None
    data = read_bytes(path)
    digest = hashlib.sha256(data).hexdigest()
    if identity is not None and time.time_ns() - max(identity[-2:]) > _SETTLED_NS:
        with _remembering:
            _remembered[identity] = digest
            if len(_remembered) > _MOST_REMEMBERED:
                del _remembered[next(iter(_remembered))]
    return digest, data


def read_bytes(path: str) -> bytes:
    """An image file's bytes, undecoded; raises Failure for what open_image would not read."""
    return _read(path, shortened(as_text(path), LONGEST_SHOWN))


def begins_like_an_image(path: str) -> bool:
    """Whether a file's first bytes are those of a format that is read; nothing is decoded.

    What the system refuses to open, or what is recognised but absurd, counts as one: opening it says why.
    """
    try:
        with Path(path).open("rb") as file:
            if _is_heif(file.read(_HEAD)):
                return True
        with _unwarned(), Image.open(path, formats=_formats()):
            return True
    except UnidentifiedImageError:
        return False
    except Exception:  # noqa: BLE001  a bomb, no permission, or whatever the damage provokes
        return True


def as_text(path: str) -> str:
    """A path as text that has a UTF-8 form: bytes of a file name that are none are written as escapes."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def _read(path: str, shown: str) -> bytes:
    """The bytes of a regular, non-empty, not absurdly large file; raises Failure."""
    if "://" in path:
        raise Failure(f"'{shown}' is an address: images are read from files, so download it first")
    try:
        found = Path(path).stat()
        if stat.S_ISDIR(found.st_mode):
            raise Failure(f"'{shown}' is a folder: name an image file in it")
        if not stat.S_ISREG(found.st_mode):  # a pipe would never end
            raise Failure(f"'{shown}' is not an ordinary file: save the image to a file first")
        if not found.st_size:
            raise Failure(f"'{shown}' is empty (0 bytes): give an image file")
        if (size := found.st_size) > MAX_FILE_BYTES:
            raise Failure(
                f"'{shown}' has {size} bytes, more than the {MAX_FILE_BYTES} that are read: shrink it"
            )
        return Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # or a zero byte in the name
        raise Failure(f"'{shown}' does not exist: check the path") from error
    except PermissionError as error:
        raise Failure(f"'{shown}' can't be read ({error.strerror}): check its permissions") from error
    except OSError as error:
        raise Failure(f"'{shown}' can't be read ({error.strerror}): check the path and the disk") from error


def _decode(shown: str, data: bytes, formats: list[str]) -> Image.Image:
    """The first frame, upright, as RGB; raises Failure for all that decoders make of a broken file."""
    try:
        with _unwarned(), Image.open(io.BytesIO(data), formats=formats) as image:
            _check_pixels(image)
            image.load()
            return _rgb(_upright(image))
    except UnidentifiedImageError as error:
        allowed = ", ".join(formats)
        if formats == [_HEIF]:
            raise Failure(f"'{shown}' is damaged: no HEIC image can be made of it; save it anew") from error
        raise Failure(f"'{shown}' is not an image in a format that is read ({allowed})") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        limit = (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise Failure(f"'{shown}' has more than {limit} million pixels: shrink it first") from error
    except MemoryError as error:
        raise Failure(f"'{shown}' does not fit into what the machine has free: shrink it first") from error
    except Exception as error:
        # Pillow's decoders meet broken files with OSError, SyntaxError, ValueError, struct.error, ...
        what = shortened(str(error) or type(error).__name__)
        raise Failure(f"'{shown}' is damaged: {what}; save it anew") from error


def _formats() -> list[str]:
    """FORMATS, but for those that a lean Pillow lacks."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _check_sides(shown: str, pixels: Image.Image) -> None:
    width, height = pixels.size
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise Failure(f"'{shown}' is {width} × {height}: crop it to sides at most {MAX_ASPECT} : 1")


@contextmanager
def _unwarned() -> Iterator[None]:
    """Keep Pillow's warnings to itself. They are switched for all threads at once: only the main one may."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check_pixels(image: Image.Image) -> None:
    """Refuse what Pillow may only warn of: a file that unpacks to more pixels than its limit."""
    width, height = image.size
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says; a damaged EXIF block says nothing."""
    try:
        turn = _TURNS.get(image.getexif().get(Base.Orientation, 1))
    except Exception:  # noqa: BLE001  Pillow's EXIF reader raises whatever the damage provokes
        return image
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as RGB; what is transparent becomes white, 16 bits are scaled, not clipped."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _eight_bit(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """A deep grey image scaled to 0..255: 16-bit values by 1/257, others by their own maximum."""
    values = np.asarray(image)
    if image.mode == "F":
        values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
    values = values.clip(min=0)
    top = values.max()
    if image.mode != "F" and top <= _SIXTEEN_BIT:
        grey = (np.arange(_SIXTEEN_BIT + 1) / 257).round().astype(np.uint8)[values]
    else:
        grey = (values / (top or 1) * 255).round().astype(np.uint8)
    if isinstance(hidden := image.info.get("transparency"), int):
        grey[values == hidden] = 255
    return Image.fromarray(grey)


def _is_heif(head: bytes) -> bool:
    """Whether a file that begins so is HEIC or HEIF; AVIF, which has the same container, is not."""
    if head[4:8] != b"ftyp":
        return False
    length = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[start : start + 4] for start in range(16, length - 3, 4))}
    return head[8:12] in _HEIF_CODED or (bool(brands & (_HEIF_CODED | _HEIF_ANY)) and not brands & _AVIF)
