"""Pictures from files, as a model should see them: upright, RGB, eight bits, first frame.

What is transparent becomes white. The stored colours are taken as they are, as in the pictures that models
learn from: a colour profile in the file is not applied. Knows Pillow and nothing of models. Whatever a file
holds, it ends as a picture or as one sentence. May be called from several threads at once.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base

from reroute_cli import heif
from reroute_cli.console.errors import Failure
from reroute_cli.console.output import shortened

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO", "AVIF", "JPEG2000")
MAX_FILE_BYTES = 1 << 30
LONGEST_SHOWN = 512  # characters of a path in a sentence
MAX_ASPECT = 200  # processors scale the shorter side up: a picture of 1 x 60000 would become gigabytes
_SIXTEEN_BIT = 65535
_MOST_REMEMBERED = 1 << 16  # files
_SETTLED_NS = 2_000_000_000  # a younger file may be written again without a change of its times
_Identity: TypeAlias = tuple[str, int, int, int, int, int]
_remembered: dict[_Identity, str] = {}  # what a file was when it was read -> its digest, the oldest first
_remembering = threading.Lock()
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
    """One opened picture: RGB pixels with the EXIF orientation applied, and the digest of its file."""

    path: str
    pixels: Image.Image
    digest: str

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, as boxes count them."""
        width, height = self.pixels.size
        return width, height


def open_picture(path: str, data: bytes | None = None) -> Picture:
    """Open a picture file; raises Failure with one sentence for everything that is none.

    data: the file's bytes where they are at hand already; `path` is then only their name.
    """
    shown = shortened(as_text(path), LONGEST_SHOWN)
    data = _read(path, shown) if data is None else data
    pixels = _decode(shown, data)
    _check_sides(shown, pixels)
    return Picture(path, pixels, hashlib.sha256(data).hexdigest())


def as_seen(image: Image.Image, shown: str) -> Image.Image:
    """An image that Pillow has opened already, as a model should see it; raises what open_picture does."""
    _check_pixels(image)
    image.load()  # before its EXIF is read: Pillow may turn it, and then says so there
    pixels = _rgb(_upright(image))
    _check_sides(shown, pixels)
    return pixels


def digest_of(path: str, data: bytes | None = None) -> tuple[str, bytes | None]:
    """SHA-256 of an image file's bytes, undecoded, and the bytes; takes and raises what open_picture does.

    A digest is remembered for as long as the file's place, size and times stay the same: the file is not
    read again then, and the bytes are None.
    """
    if data is not None:
        return hashlib.sha256(data).hexdigest(), data
    identity = _identity(path)
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
    """A picture file's bytes, undecoded; raises Failure for what open_picture would not read."""
    return _read(path, shortened(as_text(path), LONGEST_SHOWN))


def begins_like_a_picture(path: str) -> bool:
    """Whether a file's first bytes are those of a format that is read; nothing is decoded.

    What the system refuses to open, or what is recognised but absurd, counts as one: opening it says why.
    """
    try:
        with Path(path).open("rb") as file:
            if heif.is_heif(file.read(heif.HEAD)):
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


def _identity(path: str) -> _Identity | None:
    """What tells a file from what it was before it changed; None where the system knows no such file."""
    try:
        found = os.stat(path)  # noqa: PTH116  no Path for each of a million names
    except (OSError, ValueError):
        return None
    return path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read(path: str, shown: str) -> bytes:
    """The bytes of a regular, non-empty, not absurdly large file."""
    if "://" in path:
        raise Failure(f"'{shown}' is an address: pictures are read from files, so download it first")
    try:
        found = Path(path).stat()
        _check_file(shown, found.st_mode, found.st_size)
        return Path(path).read_bytes()
    except (
        FileNotFoundError,
        NotADirectoryError,
        ValueError,
    ) as error:  # ValueError: a zero byte in the name
        raise Failure(f"'{shown}' does not exist: check the path") from error
    except PermissionError as error:
        raise Failure(f"'{shown}' can't be read ({error.strerror}): check its permissions") from error
    except OSError as error:
        raise Failure(f"'{shown}' can't be read ({error.strerror}): check the path and the disk") from error


def _check_file(shown: str, mode: int, size: int) -> None:
    """Raise Failure for what can't be read as a picture file; a pipe would never end."""
    if stat.S_ISDIR(mode):
        raise Failure(f"'{shown}' is a folder: name a picture file in it")
    if not stat.S_ISREG(mode):
        raise Failure(f"'{shown}' is not an ordinary file: save the picture to a file first")
    if not size:
        raise Failure(f"'{shown}' is empty (0 bytes): give a picture file")
    if size > MAX_FILE_BYTES:
        raise Failure(f"'{shown}' has {size} bytes, more than the {MAX_FILE_BYTES} that are read: shrink it")


def _decode(shown: str, data: bytes) -> Image.Image:
    """The first frame, upright, as RGB."""
    formats = _formats()
    if heif.is_heif(data[: heif.HEAD]):
        heif.add_decoder(shown)
        formats = [heif.NAME]
    try:
        with _unwarned(), Image.open(io.BytesIO(data), formats=formats) as image:
            _check_pixels(image)
            image.load()
            return _rgb(_upright(image))
    except UnidentifiedImageError as error:
        allowed = ", ".join(formats)
        if formats == [heif.NAME]:
            raise Failure(f"'{shown}' is damaged: no HEIC image can be made of it; save it anew") from error
        raise Failure(f"'{shown}' is not a picture in a format that is read ({allowed})") from error
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
    """The picture turned as its EXIF orientation says; a damaged EXIF block says nothing."""
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
    """A deep grey picture scaled to 0..255: 16-bit values by 1/257, others by their own maximum."""
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
