"""HEIC and HEIF, as phones save images: known by their first bytes, decoded by pillow-heif, an extra.

The decoder turns an image as the file says, and takes the turn out of its EXIF. Knows no pixels.
"""

from __future__ import annotations

from reroute_cli.console.errors import Failure

NAME = "HEIF"  # what the decoder is called in Pillow
HEAD = 64  # bytes that tell a file
_CODED = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}  # ISO/IEC 23008-12, annex B
_ANY = {b"mif1", b"mif2", b"msf1"}  # the container alone, whatever the coding
_AVIF = {b"avif", b"avis"}


def is_heif(head: bytes) -> bool:
    """Whether a file that begins so is HEIC or HEIF; AVIF, which has the same container, is not."""
    if head[4:8] != b"ftyp":
        return False
    length = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[start : start + 4] for start in range(16, length - 3, 4))}
    return head[8:12] in _CODED or (bool(brands & (_CODED | _ANY)) and not brands & _AVIF)


def add_decoder(shown: str) -> None:
    """Let Pillow open HEIF; raises Failure that names the extra where it is not installed.

    shown: the image's name, for the sentence. May be called often, and by several threads.
    """
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise Failure(f"'{shown}' is HEIC: pip install 'reroute[heif]', or save it as JPEG or PNG") from error
    register_heif_opener(thumbnails=False)
