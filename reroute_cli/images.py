"""Pictures from files, as a model should see them: upright, RGB, eight bits, first frame.

Knows Pillow and nothing of models. Whatever a file holds, it ends as a picture or as one sentence.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from reroute_cli.errors import Failure

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO", "AVIF", "JPEG2000")
MAX_FILE_BYTES = 1 << 30
MAX_ASPECT = 200  # processors scale the shorter side up: a picture of 1 x 60000 would become gigabytes
_SIXTEEN_BIT = 65535


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


def open_picture(path: str) -> Picture:
    """Open a picture file; raises Failure with one sentence for everything that is none."""
    data = _read(path)
    pixels = _decode(path, data)
    width, height = pixels.size
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise Failure(f"'{path}' is {width} × {height}: crop it to sides at most {MAX_ASPECT} : 1")
    return Picture(path, pixels, hashlib.sha256(data).hexdigest())


def _read(path: str) -> bytes:
    """The bytes of a regular, non-empty, not absurdly large file."""
    if "://" in path:
        raise Failure(f"'{path}' is an address: pictures are read from files, so download it first")
    file = Path(path)
    if file.is_dir():
        raise Failure(f"'{path}' is a folder: name a picture file in it")
    if not file.exists():
        raise Failure(f"'{path}' does not exist: check the path")
    if not file.is_file():
        raise Failure(f"'{path}' is not an ordinary file: save the picture to a file first")
    size = file.stat().st_size
    if not size:
        raise Failure(f"'{path}' is empty (0 bytes): give a picture file")
    if size > MAX_FILE_BYTES:
        raise Failure(f"'{path}' has {size} bytes, more than the {MAX_FILE_BYTES} that are read: shrink it")
    try:
        return file.read_bytes()
    except OSError as error:
        raise Failure(f"'{path}' can't be read ({error.strerror}): check its permissions") from error


def _decode(path: str, data: bytes) -> Image.Image:
    """The first frame, upright, as RGB."""
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]  # a lean Pillow may lack one
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(data), formats=formats) as image:
                image.load()
                return _rgb(_upright(image))
        except UnidentifiedImageError as error:
            allowed = ", ".join(formats)
            raise Failure(f"'{path}' is not a picture in a format that is read ({allowed})") from error
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            limit = (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
            raise Failure(f"'{path}' has more than {limit} million pixels: shrink it first") from error
        except Exception as error:
            # Pillow's decoders meet broken files with OSError, SyntaxError, ValueError, struct.error, ...
            raise Failure(
                f"'{path}' is damaged: {str(error) or type(error).__name__}; save it anew"
            ) from error


def _upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says; a damaged EXIF block says nothing."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001  Pillow's EXIF reader raises whatever the damage provokes
        return image


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
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0).clip(min=0)
    deep = image.mode != "F" and values.max() <= _SIXTEEN_BIT
    top = _SIXTEEN_BIT if deep else values.max() or 1.0
    return Image.fromarray((values * (255 / top)).round().astype(np.uint8))
